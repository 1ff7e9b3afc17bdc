//! Name resolution. In a simulation, only names from the command line resolve, so that no server
//! can direct a fleet to another host.

use super::Settings;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Returns the address of a host from the settings, or resolves it unless `only_names` forbids
/// that.
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

/// Resolves a host name or literal address. IPv4 is preferred, because most modules use it.
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
