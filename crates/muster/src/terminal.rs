//! Text for a person at a terminal.
//!
//! | file | what it settles |
//! |---|---|
//! | [`screen`], [`table`] | width and colours; text in columns |
//! | [`printable`] | text from elsewhere, made harmless |
//! | [`shell_quote`] | words of a command that is printed to be pasted |

pub(crate) mod printable;
pub(crate) mod screen;
pub(crate) mod shell_quote;
pub(crate) mod table;
