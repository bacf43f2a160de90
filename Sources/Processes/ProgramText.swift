/// What a program wrote, as text for people and for the ledger: bytes that are no UTF-8, and NUL, which PostgreSQL's text
/// cannot hold, become U+FFFD.
public func programText(_ bytes: some Collection<UInt8>) -> String {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(0) else { return text }
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { scalars.append(scalar.value == 0 ? "\u{FFFD}" : scalar) }
    return String(scalars)
}
