import Foundation
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
        var (start, number) = (0, 0)
        while start < source.count {
            let end = source[start...].firstIndex(of: UInt8(ascii: "\n")) ?? source.count
            let line = source[start..<end]
            (start, number) = (end + 1, number + 1)
            guard line.first(where: { $0 > 0x20 }).map({ $0 == UInt8(ascii: "-") }) ?? true else { return }
            let text = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            guard text.isEmpty || text.hasPrefix("--") else { return }
            if ScriptParts.refusesTransaction(text) { noTransaction = true }
            guard text.contains("reeve:"), let match = text.wholeMatch(of: /--\s*reeve:\s*([a-z-]+)\s*(.*?)\s*/) else {
                continue
            }
            try read(String(match.1), value: String(match.2), location: "\(path):\(number)")
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
