import Postgres
import SQL

/// Finds the entries of an archive that define code, and their owners. Pure: no I/O.
///
/// PostgreSQL calls functions and operators while it restores an archive. It evaluates constant subexpressions when it
/// creates a table, and generated columns, partition keys and constraints when it inserts rows. No list of all these
/// calls would be complete. So every entry that defines a function, an operator or similar code is considered, whether
/// or not anything calls it.
struct ArchiveCode: Sendable {
    struct Piece: Sendable, Equatable {
        /// Type, schema, name and owner, as pg_restore lists them.
        let name: String
        /// The owner of the entry; nil if it is none of the known roles.
        let owner: String?
    }

    /// The types of entries that define no code, such as tables, constraints, types that only store values, and
    /// comments. Triggers, rules, policies and casts call functions, but do not define them.
    private static let passive: Set<String> = [
        "ACL", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "CAST", "CHECK CONSTRAINT", "COLLATION", "COMMENT",
        "CONSTRAINT",
        "DATABASE", "DATABASE PROPERTIES", "DEFAULT", "DEFAULT ACL", "DOMAIN", "ENCODING", "EXTENSION", "FK CONSTRAINT",
        "FOREIGN TABLE",
        "INDEX", "INDEX ATTACH", "LARGE OBJECT", "MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "POLICY", "PUBLICATION",
        "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA", "ROW SECURITY", "RULE", "SCHEMA", "SEARCHPATH",
        "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "SERVER", "SHELL TYPE", "STATISTICS",
        "STATISTICS DATA",
        "STDSTRINGS", "TABLE", "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY",
        "TRANSFORM", "TRIGGER", "TYPE", "USER MAPPING", "VIEW",
    ]

    /// Returns the first entry that defines code and does not belong to a trusted role; nil if there is none.
    ///
    /// - Parameters:
    ///   - trusted: the roles whose code may run.
    ///   - roles: all roles that may own an entry. The owner is the role with the longest name that the entry's line
    ///     ends with. So if an entry belongs to a role named `the admin`, and this list lacks that role, a trusted role
    ///     named `admin` is mistaken for the owner.
    static func foreign(in contents: TableOfContents, trusted: Set<ExactText>, among roles: [String]) -> Piece? {
        for entry in contents.entries where entry.type.map(passive.contains) != true {
            let owner = contents.owner(of: entry, among: roles)
            if let owner, trusted.contains(ExactText(owner)) { continue }
            let name = [entry.type, contents.names(of: entry)].compactMap { $0 }.joined(separator: " ")
            return Piece(name: name, owner: owner)
        }
        return nil
    }
}
