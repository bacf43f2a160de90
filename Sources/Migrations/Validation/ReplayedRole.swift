import Postgres
import SQL

/// What a replay runs instead of a statement about roles. Pure.
///
/// A role that a migration creates is created for the replay only if the server has no such role, without attributes,
/// and with a mark with which `ScratchDatabase` drops it again.
enum ReplayedRole {
    static func creation(_ words: [ScriptWord]) -> [String]? {
        guard words.count > 2 else { return nil }
        guard let name = name(words[2]) else { return [refusal("a role with a Unicode escape in its name")] }
        return [
            block(
                """
                DECLARE
                    name CONSTANT pg_catalog.name := \(quoteLiteral(name));
                    mark pg_catalog.text;
                BEGIN
                    -- Other replays may create and drop the role at the same time.
                    FOR attempt IN 1..100 LOOP
                        SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') INTO mark
                            FROM pg_catalog.pg_roles r WHERE r.rolname = name;
                        EXIT WHEN FOUND AND NOT coalesce(mark ~ '\(ScratchDatabase.markPattern)', false);
                        BEGIN
                            IF FOUND THEN
                                -- Another replay has created it, and may drop it at this moment.
                                mark := mark || ' ' || pg_catalog.current_database();
                                EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', name, mark);
                                EXIT;
                            END IF;
                            EXECUTE pg_catalog.format('CREATE ROLE %I', name);
                            EXECUTE pg_catalog.format(
                                'COMMENT ON ROLE %I IS %L', name, pg_catalog.current_database());
                            EXIT;
                        EXCEPTION WHEN duplicate_object OR unique_violation OR undefined_object OR internal_error
                            THEN NULL;
                        END;
                    END LOOP;
                END;
                """)
        ]
    }

    /// Drops only those roles that were created for this replay alone.
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
                        BEGIN
                            EXECUTE pg_catalog.format('DROP ROLE %I', own);
                        EXCEPTION WHEN dependent_objects_still_exist OR undefined_object THEN
                            NULL; -- Another replay uses it.
                        END;
                    END LOOP;
                END;
                """)
        ]
    }

    /// Memberships change only in roles that were created for this replay, and only those of such roles and of the
    /// current role.
    static func membership(_ words: [ScriptWord], in source: [UInt8]) -> [String] {
        guard let to = words.firstIndex(where: { ["TO", "FROM"].contains($0.keyword) }) else { return [] }
        let others = [",", "GRANT", "REVOKE", "ADMIN", "INHERIT", "SET", "OPTION", "FOR"]
        let groups = words[..<to].filter { !others.contains($0.keyword) }
        let end = words.firstIndex { ["WITH", "GRANTED", "CASCADE", "RESTRICT"].contains($0.keyword) } ?? words.count
        guard !groups.isEmpty, to < end, groups.allSatisfy({ name($0) != nil }) else { return [] }
        let (start, rest) = (
            ReplayedStatement.text(words[...to], source), ReplayedStatement.text(words[end...], source)
        )
        let changes = words[(to + 1)..<end].filter { $0.text != "," }.map { member in
            let statement = quoteLiteral("\(start) \(member.text) \(rest)")
            return """
                IF \(isCurrent(member)) OR \(array([member])) <@ own THEN
                    EXECUTE \(statement);
                END IF;
                """
        }
        return [
            block(
                """
                DECLARE own CONSTANT pg_catalog.name[] := ARRAY(
                    SELECT r.rolname FROM pg_catalog.pg_roles r
                    WHERE pg_catalog.current_database() = ANY (pg_catalog.string_to_array(
                        pg_catalog.shobj_description(r.oid, 'pg_authid'), ' ')));
                BEGIN
                    IF \(array(Array(groups))) <@ own THEN
                        \(changes.joined(separator: "\n"))
                    END IF;
                END;
                """)
        ]
    }

    /// DROP OWNED and REASSIGN OWNED also change privileges on databases and their owners.
    static func ofOwned(_ words: [ScriptWord], in source: [UInt8]) -> [String]? {
        guard let by = words.firstIndex(where: { $0.keyword == "BY" }), let first = words.first else { return nil }
        let ends = ["TO", "CASCADE", "RESTRICT"]
        let roles = words[(by + 1)...].prefix { !ends.contains($0.keyword) }.filter { $0.text != "," }
        if roles.contains(where: { name($0) == nil }) {
            return [refusal("\(first.keyword) OWNED with a Unicode escape in a name")]
        }
        let known = ["CURRENT_USER": "current_user", "CURRENT_ROLE": "current_user", "SESSION_USER": "session_user"]
        let current = roles.compactMap { known[$0.keyword] }.map { " OR r.rolname = \($0)" }.joined()
        return [
            block(
                """
                IF EXISTS (SELECT FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
                    WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.dbid = 0
                        AND (d.classid, d.objid) NOT IN (SELECT d.classid, b.oid FROM pg_catalog.pg_database b
                            WHERE d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass
                                AND b.datname = pg_catalog.current_database())
                        AND (r.rolname = ANY (\(array(Array(roles))))\(current)))
                THEN
                    \(raise("\(first.keyword) OWNED cannot be replayed, because it would change what the server has"))
                END IF;
                """),
            ReplayedStatement.text(words[...], source),
        ]
    }

    /// Returns a statement that fails, instead of one that would change what belongs to the whole server.
    static func refusal(_ what: String) -> String {
        block("BEGIN \(raise("\(what) cannot be replayed, because it may change what the server has")) END;")
    }

    private static func raise(_ message: String) -> String {
        "RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = \(quoteLiteral(message));"
    }

    /// Returns an SQL condition: whether a word means the current role.
    private static func isCurrent(_ word: ScriptWord) -> String {
        if ["CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"].contains(word.keyword) { return "true" }
        return "current_user = ANY (\(array([word])))"
    }

    /// Returns an array of the names. Longer names are truncated, as by the server.
    private static func array(_ words: [ScriptWord]) -> String {
        "ARRAY[\(words.compactMap(name).map { quoteLiteral($0) }.joined(separator: ", "))]::pg_catalog.name[]"
    }

    static func block(_ text: String) -> String {
        "DO \(quoteLiteral(text.hasPrefix("DECLARE") || text.hasPrefix("BEGIN") ? text : "BEGIN\n\(text)\nEND"))"
    }

    /// Returns the name that a token means; nil if the token has Unicode escapes.
    private static func name(_ word: ScriptWord) -> String? {
        if hasUnicodeEscapes(word.text) { return nil }
        // The server folds ASCII letters.
        guard word.text.hasPrefix("\"") else {
            return String(decoding: word.text.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
        }
        return String(word.text.dropFirst().dropLast()).substituting("\"\"", with: "\"")
    }
}
