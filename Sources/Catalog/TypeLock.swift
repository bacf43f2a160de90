import Postgres
import SQL

/// Locks on the definitions of enums and composite types. The text of a value is made by the definition of the moment,
/// and not by that of the snapshot in which the row is read. So a label that is renamed changes what is read of rows
/// that nobody has changed.
public enum TypeLock {
    /// Statements that block changes of the labels and the attributes that exist, but not new labels, until the
    /// transaction ends. They require a superuser, and fail on a standby.
    public static let definitions = """
        SELECT FROM pg_catalog.pg_enum FOR KEY SHARE;
        SELECT FROM \(composites) FOR SHARE;
        SELECT FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid = ANY (ARRAY(SELECT oid FROM \(composites)))
            FOR SHARE
        """

    /// Returns a value that changes with each change of the definitions, and with each new one.
    public static func fingerprint(on connection: isolated Connection) throws -> String {
        try connection.query(
            """
            SELECT concat_ws(' ',
                (SELECT md5(string_agg(concat_ws(' ', oid, xmin, enumlabel), ',' ORDER BY oid)) FROM pg_catalog.pg_enum),
                (SELECT md5(string_agg(concat_ws(' ', oid, relnatts), ',' ORDER BY oid)) FROM \(composites)),
                (SELECT md5(string_agg(concat_ws(' ', attrelid, attnum, xmin), ',' ORDER BY attrelid, attnum))
                    FROM pg_catalog.pg_attribute
                    WHERE attnum > 0 AND attrelid = ANY (ARRAY(SELECT oid FROM \(composites)))))
            """
        ).first?.get(0) ?? ""
    }

    private static let composites = "pg_catalog.pg_class c WHERE c.relkind = 'c'"
}
