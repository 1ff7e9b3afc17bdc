//! Requests and slow downloads on raw sockets.

use super::*;

/// A plain GET request.
pub fn get(target: &str) -> Vec<u8> {
    get_with(target, "")
}

/// A GET request with additional header lines, each of which ends with CRLF.
pub fn get_with(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n").into_bytes()
}

/// The target of the check that a LuaTask module (ASR1802) sends.
pub fn luat(project: &str, imei: &str, version: &str) -> String {
    format!(
        "/luat/update?project_key=k&imei={imei}&device_key=&firmware_name={project}_Luat_V0017_ASR1802&version={version}"
    )
}

/// The target of the check that a LuatOS module sends.
pub fn luatos(project: &str, platform: &str, imei: &str, version: &str) -> String {
    format!(
        "/upgrade?imei={imei}&project_key=k&firmware_name={project}_LuatOS-SoC_{platform}&version={version}"
    )
}

/// Connects from this local address (`None`: any) with a receive buffer of about this many bytes (0: the kernel's
/// default). Without a small buffer the kernel accepts whole files before the test reads a byte.
pub fn connect_from(source: Option<IpAddr>, to: SocketAddr, receive_buffer: usize) -> TcpStream {
    try_connect_from(source, to, receive_buffer).unwrap()
}

/// Like [`connect_from`], for a server that may be down.
pub fn try_connect_from(
    source: Option<IpAddr>,
    to: SocketAddr,
    receive_buffer: usize,
) -> std::io::Result<TcpStream> {
    use rustix::net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
    };
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if receive_buffer > 0 {
        sockopt::set_socket_recv_buffer_size(&socket, receive_buffer)?;
    }
    if let Some(source) = source {
        bind(&socket, &SocketAddr::new(source, 0))?;
    }
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// A download that reads only when the test tells it to.
pub struct SlowDownload {
    stream: TcpStream,
    raw: Vec<u8>,
}

impl SlowDownload {
    /// Sends a request, and reads until at least `first` bytes have arrived.
    pub fn begin(server: SocketAddr, request: &[u8], first: usize) -> SlowDownload {
        let mut stream = connect_from(None, server, 16 * 1024);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut download = SlowDownload {
            stream,
            raw: Vec::new(),
        };
        while download.raw.len() < first && download.read(4096).unwrap() > 0 {}
        download
    }

    /// Reads once, up to `most` bytes. Returns the number of bytes; 0 at the end of the stream.
    pub fn read(&mut self, most: usize) -> std::io::Result<usize> {
        let mut buffer = vec![0; most];
        let count = self.stream.read(&mut buffer)?;
        self.raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Number of bytes received so far, including the head.
    pub fn received(&self) -> usize {
        self.raw.len()
    }

    /// Reads the rest. Returns the complete reply, or an error that states how the reply was cut short.
    pub fn finish(mut self) -> Result<Reply, String> {
        loop {
            match self.read(64 * 1024) {
                Ok(0) => return reply::parse(&self.raw, false),
                Ok(_) => {}
                Err(error) => return Err(format!("after {} bytes: {error}", self.raw.len())),
            }
        }
    }
}
