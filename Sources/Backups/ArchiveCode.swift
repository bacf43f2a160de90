import Postgres

/// Finds the entries of an archive that can run code, and their owners. Pure.
///
/// PostgreSQL calls functions and operators while an archive is restored: it evaluates what is constant in an expression as
/// soon as a table is made, and generated columns, partition keys and constraints with the rows. No list of the places is
/// complete, so it is looked at who has brought functions, operators, casts or the like at all.
struct ArchiveCode: Sendable {
    struct Piece: Sendable, Equatable {
        /// As pg_restore lists it: type, schema, name and owner.
        let name: String
        /// nil: a role that is not known.
        let owner: String?
    }

    /// Entries that nobody calls: tables and their parts, types that only hold values, notes. Triggers, rules, policies
    /// and casts call functions, but are none.
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

    /// The first entry that can run and belongs to none of those who are trusted.
    ///
    /// - Parameters:
    ///   - trusted: roles whose code may run.
    ///   - roles: all that there are where it is restored: an owner's name can hold another one's.
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
