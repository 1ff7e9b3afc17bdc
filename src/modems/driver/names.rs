//! Host names. In a simulation a name that nobody gave on the command line is no name at
//! all, so that no server can send a fleet elsewhere.

use super::Settings;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The address of a host: as it stands, as the settings know it, or by asking.
pub(super) async fn lookup(settings: &Settings, host: &str, port: u16) -> io::Result<SocketAddr> {
    let known = settings.names.iter().find(|(name, _)| name == host);
    if let Some((_, address)) = known {
        return Ok(SocketAddr::new(*address, port));
    }
    if settings.only_names {
        return Err(io::Error::other(format!(
            "{host} was not named on the command line"
        )));
    }
    let host = host.to_owned();
    let found = smol::unblock(move || resolve(&host, port)).await?;
    Ok(SocketAddr::new(found, port))
}

/// The address of a host name; IPv4 where it has one, for so most modules have.
pub fn resolve(host: &str, port: u16) -> io::Result<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    let found: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
    found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first())
        .map(SocketAddr::ip)
        .ok_or_else(|| io::Error::other(format!("{host} has no address")))
}
