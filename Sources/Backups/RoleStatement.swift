import Postgres
import SQL

/// The roles that a statement of pg_dumpall is about. Pure: no I/O.
struct RoleStatement: Sendable, Equatable {
    let roles: [ExactText]

    /// Parses a statement; nil if it is not about roles.
    init?(_ sql: String) {
        for prefix in ["CREATE ROLE ", "ALTER ROLE ", "COMMENT ON ROLE "] {
            guard let rest = Self.text(sql[...], after: prefix) else { continue }
            roles = [Self.meant(Self.name(rest))]
            return
        }
        guard let membership = Self.text(sql[...], after: "GRANT ") else { return nil }
        let group = Self.name(membership)
        guard let member = Self.text(membership, after: group + " TO ") else { return nil }
        roles = [Self.meant(group), Self.meant(Self.name(member))]
    }

    /// Returns the roles that a script is about, but does not create. pg_dumpall reads without a snapshot, so its
    /// script contains the memberships and settings of a role that was created in the meantime, but not the role.
    static func uncreated(in script: [String]) -> Set<ExactText> {
        var (named, created): (Set<ExactText>, Set<ExactText>) = ([], [])
        for sql in script {
            guard let roles = RoleStatement(sql)?.roles else { continue }
            if text(sql[...], after: "CREATE ROLE ") != nil { created.formUnion(roles) }
            named.formUnion(roles)
        }
        return named.subtracting(created).filter { !$0.text.hasPrefix("pg_") }
    }

    /// Whether the statement is only about these roles.
    func isAbout(_ known: Set<ExactText>) -> Bool { roles.allSatisfy(known.contains) }

    private static func text(_ sql: Substring, after prefix: String) -> Substring? {
        sql.utf8.starts(with: prefix.utf8) ? Substring(sql.utf8.dropFirst(prefix.utf8.count)) : nil
    }

    /// Returns a name without its quotes. pg_dumpall does not quote every name.
    private static func meant(_ name: String) -> ExactText { ExactText(unquoteIdentifier(name) ?? name) }

    /// Returns the identifier at the start of `text`.
    private static func name(_ text: Substring) -> String {
        let (bytes, quote) = (text.utf8, UInt8(ascii: "\""))
        guard bytes.first == quote else {
            return String(Substring(bytes.prefix { $0 > 0x20 && $0 != UInt8(ascii: ";") }))
        }
        var end = bytes.index(after: bytes.startIndex)
        while end < bytes.endIndex {
            let next = bytes.index(after: end)
            if bytes[end] == quote {
                guard next < bytes.endIndex, bytes[next] == quote else { return String(Substring(bytes[..<next])) }
                end = bytes.index(after: next)
            } else {
                end = next
            }
        }
        return String(text)
    }
}
