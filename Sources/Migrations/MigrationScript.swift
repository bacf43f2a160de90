import Foundation
import Hashing
import Ledger
import Postgres
import SQL
import Telemetry

/// The SQL of one direction of a migration: its statements, its directives, and the digests of its tokens and of its
/// text.
public struct MigrationScript: Sendable {
    public let path: String
    /// The text in UTF-8.
    public let source: [UInt8]
    public let statements: [SQLStatement]
    public let directives: MigrationDirectives
    /// SHA-256 of all tokens. Comments, white space and line ends are not included.
    public let tokenDigest: [UInt8]
    /// SHA-256 of the unchanged bytes of the file, or of its part.
    public let textDigest: [UInt8]

    /// - Parameters:
    ///   - path: the name of the file, for errors.
    ///   - bytes: the bytes of the file.
    /// - Throws: `SQLScriptError`, or `MigrationError`, with the location.
    public init(path: String, bytes: [UInt8]) throws {
        try ScriptEncoding.refuseOtherThanText(bytes, path: path)
        let directives = try MigrationDirectives(header: bytes, path: path)
        let source = try ScriptEncoding.decoded(bytes, encoding: directives.encoding, path: path)
        try self.init(path: path, source: source, directives: directives, textDigest: Digest.of(bytes))
    }

    /// Creates the script of a text that the ledger has recorded. The text is in UTF-8, whatever encoding it names.
    ///
    /// - Throws: as `init(path:bytes:)`.
    init(path: String, recorded text: String) throws {
        let source = Array(text.utf8)
        try self.init(
            path: path, source: source, directives: MigrationDirectives(header: source, path: path),
            textDigest: Digest.of(source))
    }

    private init(path: String, source: [UInt8], directives: MigrationDirectives, textDigest: [UInt8]) throws {
        self.path = path
        self.source = source
        self.directives = directives
        self.textDigest = textDigest
        statements = try SQLLexer.split(source, file: path)
        tokenDigest = Digest.of(try SQLLexer.canonicalTokens(of: statements, in: source, file: path))
    }

    /// Whether the script may change how later sessions begin, or leaves something that the server cannot reset: it
    /// keeps a setting with a name of two parts as an empty string. The next migration then requires a new session.
    var requiresNewSession: Bool {
        // Compared with running a large script, connecting takes no time.
        if source.count > 1 << 20 || source.mentions("set_config") { return true }
        // Most files have none of the words, and are not searched with an expression.
        let shared: [StaticString] = ["database", "role", "user", "system"]
        let alters = source.mentions("alter")
        if alters, shared.contains(where: { source.mentions($0) }),
            text.contains(/(?i)\balter\s+(?:database|role|user|system)\b/)
        {
            return true
        }
        return source.mentions("set")
            && text.contains(/(?i)\bset(?:\s+session|\s+local)?\s+"?[a-z_][a-z0-9_$]*"?\./)
    }

    /// Returns whether the text contains a name as a whole word, in lower or upper case.
    func names(_ identifier: String) -> Bool {
        let name = quoteIdentifier(identifier).dropFirst().dropLast().lowercased()
        let text = text.lowercased()
        let isOfWord = { (character: Character) in
            character.isLetter || character.isNumber || "_$".contains(character)
        }
        return text.ranges(of: name).contains { range in
            !(text[..<range.lowerBound].last.map(isOfWord) ?? false)
                && !(text[range.upperBound...].first.map(isOfWord) ?? false)
        }
    }

    /// Returns those of some roles that the script may name, if it may ask which roles there are. Reads the text once,
    /// because a server may have thousands of roles.
    func rolesAskedFor(_ roles: [String]) -> [String] {
        let catalogs: [StaticString] = ["pg_roles", "pg_authid", "pg_user", "pg_has_role", "regrole"]
        guard catalogs.contains(where: { source.mentions($0) }) else { return [] }
        let words = Set(Self.words(in: text))
        return roles.filter { Self.words(in: $0).allSatisfy(words.contains) }
    }

    /// The words of a text, in lower case; bytes outside ASCII count as letters.
    private static func words(in text: String) -> [String] {
        text.lowercased().utf8.split { byte in
            !(0x61...0x7A).contains(byte) && !(0x30...0x39).contains(byte) && byte != 0x5F && byte < 0x80
        }.map { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether the script may create roles.
    var mentionsRoles: Bool {
        let words: [StaticString] = ["role", "user", "group"]
        return words.contains { source.mentions($0) }
    }

    public var text: String { String(decoding: source, as: UTF8.self) }

    /// Returns the text of a statement.
    public func text(of statement: SQLStatement) -> String {
        String(decoding: source[statement.range], as: UTF8.self)
    }

    /// Returns the token digest of some of the statements.
    func tokenDigest(of statements: [SQLStatement]) throws -> [UInt8] {
        Digest.of(try SQLLexer.canonicalTokens(of: statements, in: source, file: path))
    }

    /// Returns the tokens of a statement.
    func words(of statement: SQLStatement) throws -> [ScriptWord] {
        try SQLLexer.tokens(
            of: source, in: statement.range, standardConformingStrings: statement.standardConformingStrings, file: path
        ).map { ScriptWord($0, in: source) }
    }

    /// Returns the location of the beginning of a statement, for messages.
    func location(of statement: SQLStatement) -> String {
        SourceExcerpt(file: path, source: source, offset: statement.range.lowerBound).location
    }
}

/// A token of a statement.
struct ScriptWord: Sendable {
    /// The token as it is written.
    let text: String
    /// A keyword or an identifier without quotes in upper case; any other token as it is written. Only ASCII letters
    /// are changed, because no keyword has others.
    let keyword: String
    /// Whether the token is a key word or an identifier.
    let isName: Bool
    /// The bytes of the token in the script.
    let range: Range<Int>

    init(_ token: SQLToken, in source: [UInt8]) {
        let bytes = source[token.range]
        text = String(decoding: bytes, as: UTF8.self)
        range = token.range
        isName = token.kind == .word || token.kind == .quotedIdentifier
        keyword =
            token.kind == .word
            ? String(decoding: bytes.map { (0x61...0x7A).contains($0) ? $0 & 0xDF : $0 }, as: UTF8.self) : text
    }
}
