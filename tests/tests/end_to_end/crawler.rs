//! The crawler of the demonstration.

use std::process::Command;

use crate::harness::{Fixture, Tracer, assert_passes_through, fixture_binary};

#[test]
fn the_crawler_of_the_demonstration_is_found_with_the_function_that_forgets() {
    let mut command = Command::new(fixture_binary("leaky-crawler"));
    let mut crawler = Fixture::start_program(command.arg("--wait"));
    let mut tracer = Tracer::of(&crawler);
    crawler.tell();

    let leak = tracer.wait_for_group("a growing leak", |group| {
        group["leak"] == true && group["count"].as_u64() >= Some(6)
    });
    assert_eq!(leak["verdict"], "eof-unread");
    assert_eq!(leak["process"]["comm"], "leaky-crawler");
    assert_eq!(leak["opener"]["pid"], crawler.pid());
    assert_eq!(leak["origin"]["kind"], "connect");
    assert_passes_through(&leak["origin"], "leaky_crawler::fetch_page");
    assert_passes_through(&leak["origin"], "leaky_crawler::crawl");
    let ended = tracer.interrupt();
    let groups = ended.last()["groups"].as_array().map(Vec::len);
    assert_eq!(
        groups,
        Some(1),
        "the pages that exist leak too: {:#}",
        ended.last()
    );
}
