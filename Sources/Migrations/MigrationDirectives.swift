import Foundation
import SQL
import Telemetry

/// The directives of a file: lines `-- reeve: …` in the comments at its beginning.
public struct MigrationDirectives: Sendable, Equatable {
    /// `no-transaction`: each statement runs as a separate step, which is recorded in the journal.
    public var noTransaction = false
    /// `lock-timeout 5s`: replaces the configured lock timeout.
    public var lockTimeout: Duration?
    /// `retries 20`: how often the migration is retried if it does not acquire its locks in time.
    public var retries: Int?
    /// `encoding LATIN1`: the encoding of the file, by PostgreSQL's name; nil: UTF-8.
    public var encoding: String?
    /// `opt-in NAME`: the migration is applied only if the option is chosen.
    public var option: String?

    init() {}

    init(header source: [UInt8], path: String) throws {
        var header = HeaderComments(source)
        while let comment = header.next() {
            guard source[comment].mentions("reeve") || source[comment].mentions("transaction") else { continue }
            let text = String(decoding: source[comment], as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            if ScriptParts.refusesTransaction(text) { noTransaction = true }
            guard let match = text.wholeMatch(of: Self.form) else { continue }
            try read(
                match.1.lowercased(), value: String(match.2),
                location: "\(path):\(SourceExcerpt(file: path, source: source, offset: comment.lowerBound).line)")
        }
        try Self.refuseOthers(in: source, after: header.end, path: path)
    }

    private static var form: Regex<(Substring, Substring, Substring)> {
        /(?i)--+\s*reeve\s*:\s*([a-z-]+)\s*(.*?)\s*/
    }

    /// Refuses directives that are not at the beginning of the file. They would have no effect, and the migration would
    /// run in another way than its author expects.
    private static func refuseOthers(in source: [UInt8], after start: Int, path: String) throws {
        guard source[start...].mentions("reeve") else { return }
        for line in source[start...].split(separator: UInt8(ascii: "\n")) {
            let begin = line.firstIndex { $0 > 0x20 } ?? line.endIndex
            guard line[begin...].starts(with: "--".utf8) else { continue }
            let text = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            let names = ["no-transaction", "lock-timeout", "retries", "encoding", "opt-in"]
            guard let match = text.wholeMatch(of: form), names.contains(match.1.lowercased()) else { continue }
            throw MigrationError.badDirective(
                location: "\(path):\(SourceExcerpt(file: path, source: source, offset: begin).line)",
                "the directive '\(match.1.lowercased())' is behind the first statement",
                hint: "write directives in the comments at the beginning of the file")
        }
    }

    private mutating func read(_ name: String, value: String, location: String) throws {
        switch name {
        case "no-transaction" where value.isEmpty: noTransaction = true
        case "up" where value.isEmpty, "down" where value.isEmpty: break  // read by `ScriptParts`
        case "encoding":
            guard ScriptEncoding.isKnown(value) else {
                throw MigrationError.badDirective(
                    location: location, "'\(value)' is not an encoding",
                    hint: "use PostgreSQL's name of the encoding, for example LATIN1, WIN1252 or EUC_JP")
            }
            encoding = value
        case "lock-timeout":
            let range = WrittenDuration.ofServer
            guard let timeout = WrittenDuration.parse(value, in: range) else {
                throw MigrationError.badDirective(
                    location: location, WrittenDuration.problem(with: value, in: range), hint: WrittenDuration.hint)
            }
            lockTimeout = timeout
        case "retries":
            guard let count = Int(value), (0...1000).contains(count) else {
                throw MigrationError.badDirective(
                    location: location, "'\(value)' is not a number from 0 to 1000",
                    hint: "write for example 'retries 20'")
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
                hint: "use no-transaction, lock-timeout DURATION, retries N, encoding NAME or opt-in NAME")
        }
    }
}

/// The comments before the first statement of a file.
private struct HeaderComments {
    private let source: [UInt8]
    /// The end of what was read.
    private(set) var end: Int

    init(_ source: [UInt8]) {
        self.source = source
        // A byte order mark.
        end = source.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    }

    /// Returns the range of the next comment that ends with its line; nil if a statement or the end follows. Comments
    /// `/* … */`, which may be nested, are skipped.
    mutating func next() -> Range<Int>? {
        while end < source.count {
            let rest = source[end...]
            if rest.starts(with: "--".utf8) {
                let start = end
                end = rest.firstIndex(of: UInt8(ascii: "\n")) ?? source.count
                return start..<end
            } else if rest.starts(with: "/*".utf8) {
                skipBlock()
            } else if source[end] <= 0x20 {
                end += 1
            } else {
                return nil
            }
        }
        return nil
    }

    private mutating func skipBlock() {
        var depth = 0
        repeat {
            let rest = source[end...]
            if rest.starts(with: "/*".utf8) {
                (depth, end) = (depth + 1, end + 2)
            } else if rest.starts(with: "*/".utf8) {
                (depth, end) = (depth - 1, end + 2)
            } else {
                end += 1
            }
        } while depth > 0 && end < source.count
    }
}
