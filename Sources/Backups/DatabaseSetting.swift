import Postgres
import SQL

/// A setting of a database, or of a role in it. A manifest stores it as a statement about `%database%`.
///
/// A manifest is untrusted input, so the statement in it is never run. It is parsed, and a statement of another form is
/// refused. The statement that is run is built from the parsed parts. Pure: no I/O.
struct DatabaseSetting: Sendable, Equatable {
    /// The role whose sessions the setting applies to; nil: all roles.
    var role: String?
    var name: String
    /// The value of the setting. Only a setting that is a list can have no value, or more than one.
    var values: [String]

    /// Parses a statement about `%database%`, as a manifest stores it; nil for any other text.
    init?(_ statement: String) {
        var rest = Scanner(statement)
        guard rest.skip("ALTER ") else { return nil }
        if rest.skip("ROLE ") {
            guard let role = rest.identifier(), rest.skip(" IN ") else { return nil }
            self.role = role
        }
        guard rest.skip("DATABASE %database% SET "), let name = rest.identifier(), rest.skip(" TO ") else { return nil }
        self.name = name
        // The name of the setting decides whether a list or a literal follows. The rest of the statement does not show
        // it, because a name in a list may contain quotes although it is not quoted itself.
        guard let values = Self.lists.contains(name) ? rest.list() : rest.literal().map({ [$0] }) else { return nil }
        self.values = values
        // A backup must not set `ClosedDatabase.setting`, which decides how the database is opened. The comparison
        // ignores case, because the server ignores the case of setting names.
        guard rest.isAtEnd, name.lowercased() != ClosedDatabase.setting else { return nil }
    }

    /// The settings that the server stores as lists of names (`GUC_LIST_QUOTE`); pg_dump has the same list.
    private static let lists: Set = [
        "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
        "temp_tablespaces", "unix_socket_directories",
    ]

    /// Returns the statement about `%database%` for an element of `pg_db_role_setting.setconfig`. Such an element is a
    /// string of the form `name=value`.
    static func statement(role: String?, configuration: String) -> String {
        let name = String(Substring(configuration.utf8.prefix { $0 != UInt8(ascii: "=") }))
        let value = String(Substring(configuration.utf8.dropFirst(name.utf8.count + 1)))
        return "ALTER " + (role.map { "ROLE \(quoteIdentifier($0)) IN " } ?? "") + "DATABASE %database% SET "
            + "\(quoteIdentifier(name)) TO " + (lists.contains(name) ? value : quoteLiteral(value))
    }

    func statement(for database: String) -> String {
        let whose = role.map { "ROLE \(quoteIdentifier($0)) IN " } ?? ""
        let value = values.isEmpty ? "''" : values.map(quoteLiteral).joined(separator: ", ")
        return "ALTER \(whose)DATABASE \(quoteIdentifier(database)) SET \(quoteIdentifier(name)) TO \(value)"
    }

    /// Reads bytes from the start of the rest of a statement.
    private struct Scanner {
        private var rest: ArraySlice<UInt8>

        init(_ text: String) { rest = Array(text.utf8)[...] }

        var isAtEnd: Bool { rest.isEmpty }

        mutating func skip(_ text: String) -> Bool {
            guard rest.starts(with: text.utf8) else { return false }
            rest = rest.dropFirst(text.utf8.count)
            return true
        }

        /// Reads an identifier as `quote_ident` writes it.
        mutating func identifier() -> String? {
            if rest.first == UInt8(ascii: "\"") { return quoted(UInt8(ascii: "\"")) }
            let word = rest.prefix { Self.isWord($0) }
            rest = rest.dropFirst(word.count)
            return word.isEmpty ? nil : String(decoding: word, as: UTF8.self)
        }

        /// Reads a literal as `quote_literal` writes it, with or without `E`.
        mutating func literal() -> String? {
            if rest.first == UInt8(ascii: "'") { return quoted(UInt8(ascii: "'")) }
            guard rest.starts(with: "E'".utf8) else { return nil }
            rest = rest.dropFirst()
            return quoted(UInt8(ascii: "'"), escape: UInt8(ascii: "\\"))
        }

        /// Reads a list of names as the server stores it: separated by commas, and quoted if necessary.
        mutating func list() -> [String]? {
            var names: [String] = []
            while !rest.isEmpty {
                rest = rest.drop(while: Self.isSpace)
                if rest.first == UInt8(ascii: "\"") {
                    guard let name = quoted(UInt8(ascii: "\"")) else { return nil }
                    names.append(name)
                } else {
                    let name = rest.prefix { $0 != UInt8(ascii: ",") && !Self.isSpace($0) }
                    guard !name.isEmpty, !name.contains(0) else { return nil }
                    // The server folds the case of ASCII letters that are not quoted.
                    names.append(String(decoding: name.map { (65...90).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self))
                    rest = rest.dropFirst(name.count)
                }
                rest = rest.drop(while: Self.isSpace)
                guard !rest.isEmpty else { return names }
                guard rest.popFirst() == UInt8(ascii: ","), !rest.isEmpty else { return nil }
            }
            return names
        }

        /// Reads text between two quotes. A doubled quote is read as one quote. After `escape`, a quote or another
        /// `escape` is read literally, and anything else is an error.
        private mutating func quoted(_ mark: UInt8, escape: UInt8? = nil) -> String? {
            guard rest.popFirst() == mark else { return nil }
            var bytes: [UInt8] = []
            while let byte = rest.popFirst() {
                if byte == 0 { return nil }
                if byte == escape {
                    guard let next = rest.popFirst(), next == escape || next == mark else { return nil }
                    bytes.append(next)
                } else if byte == mark {
                    if rest.first != mark { return String(validating: bytes, as: UTF8.self) }
                    rest = rest.dropFirst()
                    bytes.append(mark)
                } else {
                    bytes.append(byte)
                }
            }
            return nil
        }

        /// Whether the byte is white space, as `scanner_isspace` of PostgreSQL's scansup.c defines it.
        private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

        private static func isWord(_ byte: UInt8) -> Bool {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                true
            default: false
            }
        }
    }
}
