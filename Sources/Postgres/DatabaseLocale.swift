/// How a database encodes, compares and spells text, which is fixed when it is made.
public struct DatabaseLocale: Codable, Sendable, Equatable {
    public let encoding: String
    public let collate: String
    public let ctype: String
    /// `c` for the C library, `i` for ICU, `b` for PostgreSQL's own (17 and later).
    public let provider: String
    /// Of ICU or PostgreSQL's own.
    public let locale: String?

    /// That of the database that the connection is on.
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

    /// The options of CREATE DATABASE for it.
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
