import SQL

/// The encoding and the locale of a database, which are fixed when the database is created.
public struct DatabaseLocale: Codable, Sendable, Equatable {
    public let encoding: String
    public let collate: String
    public let ctype: String
    /// `c` for the C library, `i` for ICU, `b` for PostgreSQL's builtin provider (17 and later).
    public let provider: String
    /// The locale name for ICU or for the builtin provider.
    public let locale: String?

    /// Reads the locale of the connection's database.
    ///
    /// - Throws: `PostgresError`.
    public static func read(on connection: isolated Connection) throws -> DatabaseLocale {
        let version = connection.serverVersion / 10000
        let locale = version >= 17 ? "datlocale" : version >= 15 ? "daticulocale" : "NULL"
        let provider = version >= 15 ? "datlocprovider" : "'c'"
        let row = try connection.query(
            """
            SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, \(provider)::text,
                \(locale)::text
            FROM pg_database WHERE datname = current_database()
            """
        ).first
        guard let row else { throw PostgresError(.badValue, "the server returned no row about the current database") }
        return DatabaseLocale(
            encoding: try row.get(0), collate: try row.get(1), ctype: try row.get(2), provider: try row.get(3),
            locale: try row.get(4))
    }

    /// The options of CREATE DATABASE for a database with this encoding and locale.
    public var clause: String {
        var sql =
            "ENCODING \(quoteLiteral(encoding)) LC_COLLATE \(quoteLiteral(collate)) LC_CTYPE \(quoteLiteral(ctype))"
        guard let locale else { return sql }
        sql +=
            provider == "b"
            ? " LOCALE_PROVIDER builtin BUILTIN_LOCALE \(quoteLiteral(locale))"
            : " LOCALE_PROVIDER icu ICU_LOCALE \(quoteLiteral(locale))"
        return sql
    }
}
