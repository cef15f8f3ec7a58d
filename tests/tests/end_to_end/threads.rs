//! A client with several threads.

use crate::harness::{
    Compiled, Fixture, Server, Tracer, assert_passes_in_order, assert_passes_through, title,
};

#[test]
fn a_function_that_the_c_library_calls_in_two_ways_is_one_leak() {
    let server = Server::start();
    let program = Compiled::c("two_ways", &["-g", "-pthread"]);
    let mut client = program.start(&[&server.address()]);
    let mut tracer = Tracer::of(&client);
    client.tell();
    server.hang_up_on(2);
    client.facts();
    let leak = tracer.wait_for_titled_leak_of(2);
    assert_eq!(title(&leak), "open_connection");
    assert_passes_in_order(&leak["origin"], &["open_connection", "crawl"]);
}

#[test]
fn the_opener_of_a_connection_is_the_thread_that_opened_it() {
    let servers = [(); 4].map(|()| Server::start());
    let addresses = servers.each_ref().map(Server::address);
    let mut arguments = vec!["connect-from-threads"];
    arguments.extend(addresses.iter().map(String::as_str));
    let mut client = Fixture::start(&arguments);
    let mut tracer = Tracer::of(&client);
    let tids = client.go().list::<u32>("tids");
    client.facts();
    for server in &servers {
        server.hang_up_on(1);
    }

    for (address, tid) in addresses.iter().zip(tids) {
        let leak = tracer.wait_for_group("the leak of a thread", |group| {
            group["leak"] == true && group["endpoint"] == *address && !group["origin"].is_null()
        });
        assert_eq!(leak["count"], 1);
        assert_eq!(leak["opener"]["pid"], client.pid());
        assert_eq!(leak["opener"]["tid"], tid);
        assert_ne!(tid, client.pid(), "the threads are not the first one");
        assert_eq!(leak["holders"][0]["pid"], client.pid());
        assert_passes_through(&leak["origin"], "leaky::connect::open_in_thread");
    }
}
