//! A receiver of HTTP requests on this machine, that keeps what it gets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) arrived: Vec<Arrived>,
    /// `None`: requests get no answer.
    status: Option<u16>,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) state: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    pub(crate) fn start(status: Option<u16>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks/T0KEN", listener.local_addr().unwrap());
        let state = Arc::new((Mutex::new(State { status, ..State::default() }), Condvar::new()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream.unwrap(), &state).unwrap_or_default());
            }
        });
        Self { url, state }
    }

    /// From now on.
    pub(crate) fn answers(&self, status: u16) {
        self.state.0.lock().unwrap().status = Some(status);
        self.state.1.notify_all();
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.state.0.lock().unwrap().arrived.clone()
    }
}

/// One connection: requests, one after the other.
fn serve(stream: TcpStream, state: &(Mutex<State>, Condvar)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let arrived = Arrived { headers, body, at: Instant::now() };
        let mut now = state.0.lock().unwrap();
        if length > 0 {
            now.arrived.push(arrived);
            state.1.notify_all();
        }
        while now.status.is_none() {
            now = state.1.wait(now).unwrap();
        }
        let status = now.status.unwrap();
        drop(now);
        write!(&stream, "HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n")?;
    }
}
