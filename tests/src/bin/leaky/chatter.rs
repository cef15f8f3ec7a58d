//! A program that does nothing but read and write.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

use anyhow::Result;

use crate::protocol;

/// Most bytes that are written, one at a time: some seconds' worth.
const MOST: usize = 30_000_000;

/// Writes single bytes to itself as fast as it can.
pub fn without_end() -> Result<()> {
    protocol::be_ready(&[]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut writer = TcpStream::connect(listener.local_addr()?)?;
    let (mut reader, _) = listener.accept()?;
    thread::spawn(move || -> Result<()> {
        let mut buffer = [0; 65_536];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    });
    thread::spawn(move || -> Result<()> {
        for _ in 0..MOST {
            writer.write_all(&[0])?;
        }
        Ok(())
    });
    Ok(())
}
