import Postgres
import SQL

/// The entries of an archive as SQL, from the output of `pg_restore -v -f -`. Pure: no I/O.
///
/// Each entry follows a comment with its number:
///
///     -- TOC entry 3233 (class 2606 OID 16400)
///
/// Only comments between statements are read, so no name or text in a statement is taken for such a comment.
struct ArchiveScript: Sendable, Equatable {
    struct Entry: Sendable, Equatable {
        let id: Int
        /// The statements that set up the session for this entry, such as `SET default_tablespace`.
        fileprivate(set) var settings: [String]
        var statements: [String] = []

        /// The settings and the statements, for one query. The server runs it as one transaction.
        var sql: String { (settings + statements).joined(separator: ";\n") }
    }

    private(set) var entries: [Entry] = []

    /// Parses a script in the encoding UTF-8.
    ///
    /// - Throws: `SQLScriptError`.
    init(_ script: [UInt8], file: String) throws {
        /// The statements that are in force, by the name of the setting.
        var settings: [(name: String, statement: String)] = []
        var end = 0
        for statement in try SQLLexer.split(script, file: file) {
            let sql = String(decoding: script[statement.range], as: UTF8.self)
            if let id = Self.entry(in: script[end..<statement.range.lowerBound]) {
                entries.append(Entry(id: id, settings: settings.map(\.statement)))
            }
            end = statement.range.upperBound
            if let name = try Self.setting(of: sql, file: file) {
                // The session's encoding is that of this program's strings, not that of the archive.
                if name == "client_encoding" { continue }
                settings.removeAll { $0.name == name }
                settings.append((name, sql))
            } else if let last = entries.indices.last {
                // Settings that follow the comment of their entry apply to it, too.
                if entries[last].statements.isEmpty {
                    entries[last] = Entry(id: entries[last].id, settings: settings.map(\.statement))
                }
                entries[last].statements.append(sql)
            }
        }
        entries.removeAll { $0.statements.isEmpty }
    }

    /// Returns the script with other tablespaces.
    ///
    /// - Parameter tablespaces: the tablespaces, by their names in the script; nil: the default tablespace.
    func placed(_ tablespaces: [ExactText: String?]) -> ArchiveScript {
        var result = self
        for index in entries.indices {
            result.entries[index].settings = entries[index].settings.map { setting in
                let words = setting.split(separator: " ", maxSplits: 3)
                guard setting.hasPrefix("SET default_tablespace = "), words.count == 4 else { return setting }
                let name = unquoteIdentifier(String(words[3])) ?? String(words[3])
                guard let other = tablespaces[ExactText(name)] else { return setting }
                return "SET default_tablespace = \(other.map(quoteIdentifier) ?? "''")"
            }
        }
        return result
    }

    /// Returns the name of the setting that a statement sets; nil for any other statement.
    private static func setting(of sql: String, file: String) throws -> String? {
        if sql.hasPrefix("SELECT pg_catalog.set_config('search_path'") { return "search_path" }
        guard sql.hasPrefix("SET ") else { return nil }
        let words = sql.split(whereSeparator: { $0 == " " || $0 == "=" })
        return words.dropFirst().first.map(String.init)
    }

    /// Returns the number of the entry that comments between two statements announce; nil if they announce none.
    private static func entry(in comments: ArraySlice<UInt8>) -> Int? {
        let start = Array("-- TOC entry ".utf8)
        let lines = comments.split(separator: UInt8(ascii: "\n"))
        let line = lines.last { $0.starts(with: start) }
        return line.flatMap {
            Int(String(decoding: $0.dropFirst(start.count).prefix { (48...57).contains($0) }, as: UTF8.self))
        }
    }
}
