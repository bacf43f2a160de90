import Postgres

/// The owner, the connection limit and the template flag of a database before a restore closed it. They are stored in
/// the database's setting `reeve.restoring`, which is reset when the database is opened. So they survive a restore that
/// is killed.
///
/// Only superusers can set this setting. Backups leave the setting out, and a manifest that contains it is refused.
public struct ClosedDatabase: Sendable {
    static let setting = "reeve.restoring"

    /// The OID of the owner. The name is not used, because the role may be renamed in the meantime.
    let owner: Int
    let limit: Int
    let isTemplate: Bool
    /// The ID of the backup that is being restored.
    public let backup: String

    init(owner: Int, limit: Int, isTemplate: Bool, backup: String) {
        self.owner = owner
        self.limit = limit
        self.isTemplate = isTemplate
        self.backup = backup
    }

    /// Parses a string that the property `text` has returned; nil for any other string.
    init?(_ text: String) {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 4, let owner = Int(words[0]), let limit = Int(words[1]),
            ["keep", "template"].contains(words[2])
        else { return nil }
        self.init(owner: owner, limit: limit, isTemplate: words[2] == "template", backup: words[3])
    }

    var text: String { "\(owner) \(limit) \(isTemplate ? "template" : "keep") \(backup)" }

    /// Returns the former state of the current database; nil if the database is not closed.
    ///
    /// - Throws: `PostgresError`.
    public static func read(on connection: isolated Connection) throws -> ClosedDatabase? {
        let row = try connection.query(
            """
            SELECT substr(c, length($1) + 2) FROM pg_database d JOIN pg_db_role_setting s
                ON s.setdatabase = d.oid AND s.setrole = 0 CROSS JOIN unnest(s.setconfig) c
            WHERE d.datname = current_database() AND d.datconnlimit = 0 AND starts_with(c, $1 || '=')
            """, [setting]
        ).first
        return try row.flatMap { ClosedDatabase(try $0.get(0, as: String.self)) }
    }

    /// Returns the other databases of the server that a restore has left closed, each with the ID of its backup.
    ///
    /// - Throws: `PostgresError`.
    public static func others(on connection: isolated Connection) throws -> [(database: String, backup: String)] {
        try connection.query(
            """
            SELECT d.datname::text, substr(c, length($1) + 2) FROM pg_database d JOIN pg_db_role_setting s
                ON s.setdatabase = d.oid AND s.setrole = 0 CROSS JOIN unnest(s.setconfig) c
            WHERE d.datname <> current_database() AND d.datconnlimit = 0 AND starts_with(c, $1 || '=')
                AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid) ORDER BY 1
            """, [setting]
        ).compactMap { row in
            let name: String = try row.get(0)
            return try ClosedDatabase(row.get(1)).map { (name, $0.backup) }
        }
    }

    /// The name of the former owner; nil if that role no longer exists.
    func ownerName(on connection: isolated Connection) throws -> String? {
        try connection.query("SELECT rolname::text FROM pg_roles WHERE oid = $1::int8::oid", [owner]).first?.get(0)
    }
}
