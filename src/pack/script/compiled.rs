//! Compiled scripts (`.luac` of Lua 5.3): the size of their integers, and assignments of constants to globals.

use nom::bytes::complete::{tag, take};
use nom::multi::length_count;
use nom::number::complete::{le_u32, u8};
use nom::{IResult, Parser};

use super::Identity;

/// Width of a core's integers and numbers. Modules refuse scripts that were compiled for the other width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerSize {
    /// 4 bytes: most cores.
    Four,
    /// 8 bytes: Air8101 and others.
    Eight,
}

impl IntegerSize {
    /// Returns the size of integers of this number of bits (`script.bitw` of info.json).
    pub fn of_bits(bits: u64) -> Option<IntegerSize> {
        match bits {
            32 => Some(IntegerSize::Four),
            64 => Some(IntegerSize::Eight),
            _ => None,
        }
    }

    /// Size in bits.
    pub fn bits(self) -> u8 {
        self.bytes() * 8
    }

    fn bytes(self) -> u8 {
        match self {
            IntegerSize::Four => 4,
            IntegerSize::Eight => 8,
        }
    }
}

/// Code of the instruction that assigns to a field of an upvalue: a global.
const SET_GLOBAL: u32 = 8;

/// Bit that is set in an operand if the operand is the number of a constant.
const IS_CONSTANT: u32 = 0x100;

/// Maximum number of instructions, and of constants, of a function that is parsed.
const MAX_COUNT: u32 = 1 << 18;

/// Returns the size of a compiled script's integers; `None` if the script is not one of Lua 5.3.
pub(super) fn integer_size(bytes: &[u8]) -> Option<IntegerSize> {
    let (_, size) = header(bytes).ok()?;
    Some(size)
}

/// Returns `PROJECT` and `VERSION`, if the main function assigns one constant to them.
pub(super) fn identity(bytes: &[u8]) -> Identity {
    let mut identity = Identity::default();
    let mut assigned = Vec::new();
    let Ok((_, (code, constants))) = main_function(bytes) else {
        return identity;
    };
    let text = |operand: u32| {
        let number = usize::try_from(operand.checked_sub(IS_CONSTANT)?).ok()?;
        constants.get(number).copied().flatten()
    };
    for instruction in code {
        // An instruction has, from the lowest bit, 6 bits of code, 8 of A, 9 of C, 9 of B.
        let (key, value) = (instruction >> 23, instruction >> 14 & 0x1ff);
        if instruction & 0x3f == SET_GLOBAL
            && let Some(key) = text(key)
        {
            identity.note(&mut assigned, key, text(value));
        }
    }
    identity
}

/// Parses the header of a compiled script, and the number of upvalues after it.
fn header(input: &[u8]) -> IResult<&[u8], IntegerSize> {
    let (rest, _) = tag(&b"\x1bLua\x53\x00\x19\x93\r\n\x1a\n\x04\x04\x04"[..]).parse(input)?;
    let (rest, (integer, number)) = (u8, u8).parse(rest)?;
    let size = match (integer, number) {
        (4, 4) => IntegerSize::Four,
        (8, 8) => IntegerSize::Eight,
        _ => return nom::combinator::fail().parse(rest),
    };
    // The integer 0x5678 and the number 370.5, then one byte.
    let (rest, _) = take(2 * usize::from(size.bytes()) + 1).parse(rest)?;
    Ok((rest, size))
}

/// Instructions of the main function, and its constants; `None` for a constant that is not a text.
type MainFunction<'a> = (Vec<u32>, Vec<Option<&'a [u8]>>);

fn main_function(input: &[u8]) -> IResult<&[u8], MainFunction<'_>> {
    let (rest, size) = header(input)?;
    // Source name, first and last line, number of parameters, "is it variadic", number of registers.
    let (rest, _) = (text, le_u32, le_u32, take(3_usize)).parse(rest)?;
    let count = |input| nom::combinator::verify(le_u32, |count| *count <= MAX_COUNT).parse(input);
    let (rest, code) = length_count(count, le_u32).parse(rest)?;
    let constant = |input| constant(input, size);
    length_count(count, constant)
        .map(|constants| (code.clone(), constants))
        .parse(rest)
}

fn constant(input: &[u8], size: IntegerSize) -> IResult<&[u8], Option<&[u8]>> {
    let (rest, kind) = u8(input)?;
    let skip = |length: usize| take(length).map(|_: &[u8]| None);
    match kind {
        0 => Ok((rest, None)),
        1 => skip(1).parse(rest),
        3 | 0x13 => skip(size.bytes().into()).parse(rest),
        4 | 0x14 => text.map(Some).parse(rest),
        _ => nom::combinator::fail().parse(rest),
    }
}

/// Parses a text: its length plus one as a byte, or 255 and then as four bytes; 0 for no text.
fn text(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (rest, short) = u8(input)?;
    let (rest, length) = match short {
        0xff => le_u32(rest)?,
        short => (rest, short.into()),
    };
    take(length.saturating_sub(1)).parse(rest)
}
