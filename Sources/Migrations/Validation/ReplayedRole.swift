import Postgres
import SQL

/// What a replay runs instead of a statement about roles. Pure.
///
/// A role that a migration creates is created for the replay only if the server has no such role, without attributes,
/// and with a mark with which `ScratchDatabase` drops it again.
enum ReplayedRole {
    static func creation(_ words: [ScriptWord]) -> [String]? {
        guard words.count > 2 else { return nil }
        let name = "\(quoteLiteral(name(words[2])))::pg_catalog.name"
        return [
            block(
                """
                IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = \(name)) THEN
                    EXECUTE pg_catalog.format('CREATE ROLE %I', \(name));
                    EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', \(name), pg_catalog.current_database());
                END IF;
                """)
        ]
    }

    /// Drops only those roles that were created for the replay.
    static func removal(_ words: [ScriptWord]) -> [String]? {
        let names = words.dropFirst(2).filter { $0.text != "," && !["IF", "EXISTS"].contains($0.keyword) }
        return [
            block(
                """
                DECLARE own pg_catalog.name;
                BEGIN
                    FOR own IN SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (\(array(names)))
                        AND pg_catalog.shobj_description(r.oid, 'pg_authid') = pg_catalog.current_database()
                    LOOP
                        EXECUTE pg_catalog.format('DROP ROLE %I', own);
                    END LOOP;
                END;
                """)
        ]
    }

    /// DROP OWNED and REASSIGN OWNED also change privileges on databases and their owners.
    static func ofOwned(_ words: [ScriptWord], in source: [UInt8]) -> [String]? {
        guard let by = words.firstIndex(where: { $0.keyword == "BY" }), let first = words.first, let last = words.last
        else { return nil }
        let ends = ["TO", "CASCADE", "RESTRICT"]
        let roles = words[(by + 1)...].prefix { !ends.contains($0.keyword) }.filter { $0.text != "," }
        let known = ["CURRENT_USER": "current_user", "CURRENT_ROLE": "current_user", "SESSION_USER": "session_user"]
        let current = roles.compactMap { known[$0.keyword] }.map { " OR r.rolname = \($0)" }.joined()
        return [
            block(
                """
                IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.dbid = 0
                        AND (r.rolname = ANY (\(array(Array(roles))))\(current)))
                THEN
                    RAISE EXCEPTION '\(first.keyword) OWNED cannot be replayed, because it would change databases, '
                        'tablespaces or memberships of the server, which the replay leaves alone' USING ERRCODE = '0A000';
                END IF;
                """),
            String(decoding: source[first.range.lowerBound..<last.range.upperBound], as: UTF8.self),
        ]
    }

    /// Returns an array of the names. Longer names are truncated, as by the server.
    private static func array(_ words: [ScriptWord]) -> String {
        "ARRAY[\(words.map { quoteLiteral(name($0)) }.joined(separator: ", "))]::pg_catalog.name[]"
    }

    private static func block(_ text: String) -> String {
        "DO \(quoteLiteral(text.hasPrefix("DECLARE") ? text : "BEGIN\n\(text)\nEND"))"
    }

    private static func name(_ word: ScriptWord) -> String {
        // The server folds ASCII letters.
        guard word.text.hasPrefix("\"") else {
            return String(decoding: word.text.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
        }
        return String(word.text.dropFirst().dropLast()).substituting("\"\"", with: "\"")
    }
}
