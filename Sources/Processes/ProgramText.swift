/// Converts the output of a program to text, for people and for the ledger. Bytes that are not UTF-8 become U+FFFD. NUL
/// also becomes U+FFFD, because PostgreSQL's text cannot contain it.
public func programText(_ bytes: some Collection<UInt8>) -> String {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(0) else { return text }
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { scalars.append(scalar.value == 0 ? "\u{FFFD}" : scalar) }
    return String(scalars)
}

/// Converts the error output of a program to text, without rows of the database. DETAIL and CONTEXT in the output of
/// PostgreSQL's programs are left out, because they quote rows.
///
/// A quoted row may contain line ends. The lines after a DETAIL or CONTEXT line are therefore also left out, up to a
/// line that begins with one of `messageBeginnings`: a program's name, or the label of a quoted statement.
public func programMessage(_ bytes: some Collection<UInt8>) -> String {
    var isLeftOut = false
    let lines = programText(bytes).split(separator: "\n", omittingEmptySubsequences: false)
    return lines.filter { line in
        if line.hasPrefix("DETAIL:") || line.hasPrefix("CONTEXT:") {
            isLeftOut = true
        } else if isLeftOut {
            isLeftOut = !messageBeginnings.contains { line.hasPrefix($0) }
        }
        return !isLeftOut
    }.joined(separator: "\n")
}

private let messageBeginnings = ["pg_restore: ", "pg_dump: ", "pg_dumpall: ", "psql:", "Command was: "]
