//! Addresses as QR codes.

use maud::{Markup, html};
use qrcode::{Color, QrCode};

/// A QR code of an address, as a picture that says `what` it is. It is dark on white by night too, or
/// phones do not read it. Empty if the address is too long for one.
pub(super) fn picture(address: &str, what: &str) -> Markup {
    let Ok(code) = QrCode::new(address.as_bytes()) else { return html! {} };
    let side = code.width();
    let colors = code.to_colors();
    let dark = colors.iter().enumerate().filter(|(_, color)| **color == Color::Dark);
    let dots: Vec<_> =
        dark.map(|(at, _)| format!("M{} {}h1v1h-1z", at % side + 4, at / side + 4)).collect();
    let whole = side + 8;
    html! {
        svg width="240" height="240" viewBox={ "0 0 " (whole) " " (whole) } role="img"
            aria-label=(what) shape-rendering="crispEdges" {
            rect width=(whole) height=(whole) fill="#fff" {}
            path d=(dots.concat()) fill="#000" {}
        }
    }
}
