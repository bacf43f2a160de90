import Catalog
import Postgres
import SQL

/// Compares the definition in a CREATE INDEX statement with existing indexes.
///
/// The server itself reads the definition: it builds the index on an empty temporary copy of the table, in a
/// transaction that is rolled back. So names are folded and truncated, types and operator classes are resolved, and
/// expressions are spelled as the server does it.
struct IndexTwin: Sendable {
    let statement: IndexStatement
    let text: SQLStatement
    let script: MigrationScript

    /// An index of the table.
    struct Candidate: Sendable {
        let oid: Int
        /// The name, with its schema, for use in SQL.
        let name: String
        let isValid: Bool
        /// Whether it has the name in the statement. True if the statement has no name.
        let hasName: Bool
        /// Whether it has the name and the whole definition in the statement.
        let isSame: Bool
    }

    /// Returns the indexes of a table, compared with the statement. Must be called in the session of the migration,
    /// outside a transaction.
    ///
    /// - Parameter table: the OID of the table.
    /// If the server cannot build the index on the copy, for instance because an expression has the row type of the
    /// table, the definitions are compared as texts.
    ///
    func candidates(of table: Int, on connection: isolated Connection) throws -> [Candidate] {
        var found: [Candidate] = []
        do {
            try connection.transaction {
                try makeTwin(of: table, on: connection)
                found = try read(table, on: connection)
                throw Discarded()
            }
            return found
        } catch is Discarded {
            return found
        } catch let error as PostgresError where error.kind == .server {
            return try comparedAsText(table, on: connection)
        }
    }

    // MARK: Texts

    private func comparedAsText(_ table: Int, on connection: isolated Connection) throws -> [Candidate] {
        let own = try Self.definition(
            script.words(of: text).filter { $0.range.lowerBound >= statement.definitionStart }[...])
        return try connection.query(
            """
            SELECT x.indexrelid::pg_catalog.int8 AS oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
                x.indisvalid AND x.indisready AS is_valid, x.indisunique AS is_unique,
                c.relname OPERATOR(pg_catalog.=) (pg_catalog.parse_ident($2))[1]::pg_catalog.name AS has_name,
                pg_catalog.pg_get_indexdef(x.indexrelid) AS definition
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) x.indexrelid
                JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
            WHERE x.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.int8::pg_catalog.oid ORDER BY 1
            """, [table, statement.name.flatMap { hasUnicodeEscapes($0) ? nil : $0 }]
        ).map { row in
            let other = try MigrationScript(path: "", bytes: Array(row.get("definition", as: String.self).utf8))
            let words = try other.statements.first.map(other.words) ?? []
            let hasName = try statement.name == nil || row.get("has_name", as: Bool?.self) ?? false
            let isUnique = try row.get("is_unique", as: Bool.self) == statement.isUnique
            let start = words.firstIndex { $0.keyword == "USING" } ?? words.endIndex
            return Candidate(
                oid: try row.get("oid"), name: try row.get("name"), isValid: try row.get("is_valid"),
                hasName: hasName, isSame: hasName && isUnique && Self.definition(words[start...]) == own)
        }
    }

    /// Returns the words of a definition, without what the server adds when it writes one.
    private static func definition(_ words: ArraySlice<ScriptWord>) -> [String] {
        var texts = words.map(\.keyword)
        if texts.prefix(2) == ["USING", "BTREE"] { texts.removeFirst(2) }
        // The server writes the row of the table as `t.*`.
        return texts.indices.filter { index in
            let isStar = { (place: Int) in texts[place...].starts(with: [".", "*"]) }
            return !isStar(index) && !(index > 0 && isStar(index - 1))
        }.map { texts[$0] }
    }

    /// Ends the transaction without an effect.
    private struct Discarded: Error {}

    private func makeTwin(of table: Int, on connection: isolated Connection) throws {
        // The copy has the name of the table, because the definition may contain that name.
        let names = try connection.query(
            """
            SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.format('%I', c.relname),
                CASE WHEN c.relowner OPERATOR(pg_catalog.<>) r.oid THEN
                    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner)) END, r.rolsuper
            FROM pg_catalog.pg_roles r, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
            WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.int8::pg_catalog.oid
                AND r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
            """, [table]
        ).first.map { row in
            (
                whole: try row.get(0, as: String.self), plain: try row.get(1, as: String.self),
                owner: try row.get(2, as: String?.self), isSuperuser: try row.get(3, as: Bool.self)
            )
        }
        guard let names else { throw PostgresError(.server, "the table does not exist") }
        if let owner = names.owner, !names.isSuperuser { try connection.execute("SET LOCAL ROLE \(owner)") }
        try connection.execute("CREATE TEMPORARY TABLE \(names.plain) (LIKE \(names.whole)) ON COMMIT DROP")
        // The server evaluates the expressions of an index as the owner of the table.
        if let owner = names.owner, names.isSuperuser {
            try connection.execute("ALTER TABLE pg_temp.\(names.plain) OWNER TO \(owner)")
        }
        let definition = String(
            decoding: script.source[statement.definitionStart..<text.range.upperBound], as: UTF8.self)
        try connection.execute(
            "CREATE \(statement.isUnique ? "UNIQUE " : "")INDEX \(statement.name ?? "") ON pg_temp.\(names.plain) "
                + "\(definition)"
        )
    }

    private func read(_ table: Int, on connection: isolated Connection) throws -> [Candidate] {
        try connection.execute(ScriptRun.closing.joined(separator: "; "))
        let definition = """
            ROW(c.relam, c.reloptions, pg_get_expr(x.indpred, x.indrelid),
                ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, false) FROM generate_series(1, x.indnatts) k),
                to_jsonb(x) - ARRAY['indexrelid', 'indrelid', 'indkey', 'indexprs', 'indpred', 'indisvalid',
                    'indisready', 'indislive', 'indcheckxmin', 'indisclustered', 'indisreplident'])::text
            """
        return try connection.query(
            """
            WITH twin AS (
                SELECT c.relname, \(definition) AS definition FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
                WHERE x.indrelid = (SELECT oid FROM pg_class
                    WHERE relnamespace = pg_my_temp_schema() AND relname = (
                        SELECT relname FROM pg_class WHERE oid = $1::int8::oid))
            )
            SELECT x.indexrelid::int8 AS oid, format('%I.%I', n.nspname, c.relname) AS name,
                x.indisvalid AND x.indisready AS is_valid, $2::bool OR c.relname = t.relname AS has_name,
                \(definition) = t.definition AS is_same
            FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                CROSS JOIN twin t
            WHERE x.indrelid = $1::int8::oid ORDER BY 1
            """, [table, statement.name == nil]
        ).map { row in
            let hasName = try row.get("has_name", as: Bool.self)
            return Candidate(
                oid: try row.get("oid"), name: try row.get("name"), isValid: try row.get("is_valid"),
                hasName: hasName, isSame: try hasName && row.get("is_same", as: Bool.self))
        }
    }
}
