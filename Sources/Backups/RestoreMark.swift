import Catalog
import Postgres
import SQL

/// The mark of a database into which a whole backup is being restored. A backup of such a database would look whole and
/// contain a part, so none is made (`BackupMaker`).
///
/// A superuser closes the database (`ClosedDatabase`), which marks it. For any other role the mark is an empty schema
/// whose comment is the ID of the backup. Backups leave the schema out.
public enum RestoreMark {
    /// Has the form of `UserSchemas.restorePattern`.
    private static let schema = UserSchemas.restorePrefix + "wholedatabase"

    /// Returns the ID of the backup of which the current database contains a part; nil if it is not marked. Only a mark
    /// of the database's owner, of a superuser or of the current role counts: any role that may create schemas could
    /// stop the backups otherwise.
    ///
    /// - Throws: `PostgresError`.
    public static func backup(on connection: isolated Connection) throws -> String? {
        if let closed = try ClosedDatabase.read(on: connection) { return closed.backup }
        return try connection.query(
            """
            SELECT coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), 'a backup')
            FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
                JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
            WHERE n.nspname = $1 AND (r.rolsuper OR r.oid = d.datdba OR r.rolname = current_user)
            """, [schema]
        ).first?.get(0)
    }

    /// Marks the current database.
    ///
    /// - Throws: `PostgresError`, for example if the role may not create schemas.
    static func set(_ backup: String, on connection: isolated Connection) throws {
        try connection.transaction {
            try connection.execute("CREATE SCHEMA IF NOT EXISTS \(schema)")
            try connection.execute("COMMENT ON SCHEMA \(schema) IS \(quoteLiteral(backup))")
        }
    }

    /// Removes the mark that `set` has made.
    static func remove(on connection: isolated Connection) throws {
        try connection.execute("DROP SCHEMA IF EXISTS \(schema)")
    }
}
