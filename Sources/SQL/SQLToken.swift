/// A token of SQL, as psql's scanner defines it. White space and comments are not tokens.
public struct SQLToken: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// A key word or an identifier without quotes.
        case word
        /// `"…"`, also with the prefix `U&`.
        case quotedIdentifier
        /// `'…'` with its prefix and continuations, or `$tag$…$tag$`.
        case string
        /// A number, or a parameter such as `$1`.
        case number
        case openParenthesis
        case closeParenthesis
        case semicolon
        /// An operator of any length, or another single character.
        case symbol
        /// A psql meta-command: a backslash and the rest of its line.
        case metaCommand
    }

    public let kind: Kind
    /// The bytes of the token in the source.
    public let range: Range<Int>
}

/// The reason why a source cannot be scanned.
struct SQLScanError: Error {
    let message: String
    var hint: String?
    let offset: Int
}
