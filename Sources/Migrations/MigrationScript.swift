import Foundation
import Hashing
import Ledger
import Postgres
import SQL
import Telemetry

/// An SQL file: its statements, its directives, and the digests of its tokens and of its text.
public struct MigrationScript: Sendable {
    public let path: String
    public let source: [UInt8]
    public let statements: [SQLStatement]
    public let directives: MigrationDirectives
    /// SHA-256 of all tokens. Comments, white space and line ends are not included.
    public let tokenDigest: [UInt8]
    /// SHA-256 of the unchanged bytes of the file.
    public let textDigest: [UInt8]

    /// - Throws: `SQLScriptError`, or `MigrationError`, with the location.
    public init(path: String, source: [UInt8]) throws {
        self.path = path
        self.source = source
        statements = try SQLLexer.split(source, file: path)
        directives = try MigrationDirectives(header: source, path: path)
        textDigest = Digest.of(source)
        tokenDigest = Digest.of(try SQLLexer.canonicalTokens(of: statements, in: source, file: path))
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

    /// Returns the tokens of a statement, with keywords and unquoted identifiers in upper case.
    func words(of statement: SQLStatement) throws -> [String] {
        try SQLLexer.tokens(
            of: source, in: statement.range, standardConformingStrings: statement.standardConformingStrings, file: path
        ).map { token in
            let text = String(decoding: source[token.range], as: UTF8.self)
            return token.kind == .word ? text.uppercased() : text
        }
    }

    /// Returns the location of the beginning of a statement, for messages.
    func location(of statement: SQLStatement) -> String {
        SourceExcerpt(file: path, source: source, offset: statement.range.lowerBound).location
    }
}

/// The directives of a file: lines `-- reeve: …` in the comments at its beginning.
public struct MigrationDirectives: Sendable, Equatable {
    /// `no-transaction`: each statement runs as a separate step, which is recorded in the journal.
    public var noTransaction = false
    /// `lock-timeout 5s`: replaces the configured lock timeout.
    public var lockTimeout: Duration?
    /// `retries 20`: how often the migration is retried if it does not acquire its locks in time.
    public var retries: Int?
    /// `opt-in NAME`: the migration is applied only if the option is chosen.
    public var option: String?

    init() {}

    init(header source: [UInt8], path: String) throws {
        for (index, line) in source.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated()
        {
            guard line.first(where: { $0 > 0x20 }).map({ $0 == UInt8(ascii: "-") }) ?? true else { return }
            let text = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            guard text.isEmpty || text.hasPrefix("--") else { return }
            guard text.contains("reeve:"), let match = text.wholeMatch(of: /--\s*reeve:\s*([a-z-]+)\s*(.*?)\s*/) else {
                continue
            }
            try read(String(match.1), value: String(match.2), location: "\(path):\(index + 1)")
        }
    }

    private mutating func read(_ name: String, value: String, location: String) throws {
        switch name {
        case "no-transaction" where value.isEmpty: noTransaction = true
        case "lock-timeout":
            let range = WrittenDuration.ofServer
            guard let timeout = WrittenDuration.parse(value, in: range) else {
                throw MigrationError.badDirective(
                    location: location, WrittenDuration.problem(with: value, in: range), hint: WrittenDuration.hint)
            }
            lockTimeout = timeout
        case "retries":
            guard let count = Int(value), count >= 0 else {
                throw MigrationError.badDirective(
                    location: location, "'\(value)' is not a number", hint: "write for example 'retries 20'")
            }
            retries = count
        case "opt-in":
            guard value.wholeMatch(of: /[a-z][a-z0-9-]*/) != nil else {
                throw MigrationError.badDirective(
                    location: location, "'\(value)' is not a valid name of an option",
                    hint: "use lower-case letters, digits and hyphens"
                )
            }
            option = value
        default:
            throw MigrationError.badDirective(
                location: location, "unknown directive '\(name)\(value.isEmpty ? "" : " ")\(value)'",
                hint: "use no-transaction, lock-timeout DURATION, retries N or opt-in NAME")
        }
    }
}
