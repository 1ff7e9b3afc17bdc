//! Reads any bytes as an archive, a LuaDB image and a script package. Reading must end, and must not panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use luat_ota::pack;

fuzz_target!(|bytes: &[u8]| {
    let _any = pack::soc::Soc::read(std::io::Cursor::new(bytes));
    let _any = pack::luadb::read(bytes);
    let _any = pack::ec::unpack(bytes);
    let _any = pack::air8101::unpack(bytes);
    let _any = pack::show::show_bytes("x.bin", bytes);
});
