/// What a program wrote, as text for people and for the ledger: bytes that are no UTF-8, and NUL, which PostgreSQL's text
/// cannot hold, become U+FFFD.
public func programText(_ bytes: some Collection<UInt8>) -> String {
    let text = String(decoding: bytes, as: UTF8.self)
    guard text.utf8.contains(0) else { return text }
    var scalars = String.UnicodeScalarView()
    for scalar in text.unicodeScalars { scalars.append(scalar.value == 0 ? "\u{FFFD}" : scalar) }
    return String(scalars)
}

/// What one of PostgreSQL's programs, or another, has said on its standard error, without the rows that stand in it: DETAIL
/// and CONTEXT quote them, with whatever line ends are in them.
///
/// What follows such a line is left out too, up to one that a program begins with its name, or that names the statement.
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
