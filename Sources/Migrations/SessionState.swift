import Foundation
import Postgres
import SQL

/// The state that the statements of a script have left in their session. The journal records it with each step, so that
/// an interrupted migration continues in a new session with the same state.
struct SessionState: Codable, Equatable, Sendable {
    /// The settings that were made in the session, in their base units.
    var settings: [String: String]
    var role: String
    var user: String
    /// The texts of the PREPARE statements.
    var prepared: [String]
    /// Whether the session has temporary objects or cursors, whose content cannot be restored.
    var hasTemporaryObjects: Bool

    /// Reads the state. Depends on no setting of the session.
    ///
    /// - Parameter names: settings with a name of two parts that the script may have made. The server does not list them.
    static func read(custom names: [String], on connection: isolated Connection) throws -> SessionState {
        let custom = names.map { "(\(quoteLiteral($0)))" }.joined(separator: ", ")
        let listed =
            names.isEmpty
            ? ""
            : """
                 UNION ALL SELECT c.name, pg_catalog.current_setting(c.name, true) FROM (VALUES \(custom)) c (name)
                    WHERE pg_catalog.current_setting(c.name, true) IS NOT NULL
            """
        let text: String? = try connection.query(
            """
            SELECT pg_catalog.json_build_object(
                'settings', coalesce((
                    SELECT pg_catalog.json_object_agg(s.name, s.setting) FROM (
                        SELECT p.name, p.setting FROM pg_catalog.pg_settings p
                        WHERE p.source OPERATOR(pg_catalog.=) 'session'
                            AND NOT pg_catalog.starts_with(p.name, 'transaction_')\(listed)) s), '{}'),
                'role', pg_catalog.current_setting('role'), 'user', session_user,
                'prepared', coalesce((
                    SELECT pg_catalog.json_agg(p.statement ORDER BY p.prepare_time)
                    FROM pg_catalog.pg_prepared_statements p WHERE p.from_sql), '[]'),
                'hasTemporaryObjects', EXISTS (
                    SELECT FROM pg_catalog.pg_class c
                    WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
                    OR EXISTS (SELECT FROM pg_catalog.pg_cursors c WHERE c.is_holdable)
            )::pg_catalog.text
            """
        ).first?.get(0)
        var state = try JSONDecoder().decode(SessionState.self, from: Data((text ?? "").utf8))
        // The server returns the whole text that was sent with PREPARE, which may contain other statements.
        if !state.prepared.allSatisfy(isPrepare) {
            state.prepared = []
            state.hasTemporaryObjects = true
        }
        return state
    }

    /// Returns whether a text is one PREPARE statement and nothing else.
    private static func isPrepare(_ text: String) -> Bool {
        let source = Array(text.utf8)
        guard let statements = try? SQLLexer.split(source), statements.count == 1,
            let first = try? SQLLexer.tokens(of: source, in: statements[0].range).first
        else { return false }
        return String(decoding: source[first.range], as: UTF8.self).uppercased() == "PREPARE"
    }

    /// Returns the settings with a name of two parts, such as `app.tenant`, that a script may make.
    static func customSettings(in script: MigrationScript) -> [String] {
        var names: Set<String> = []
        for match in script.text.matches(
            of: /(?i)\bset(?:\s+session|\s+local)?\s+([a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$]*)/)
        {
            names.insert(match.1.lowercased())
        }
        for match in script.text.matches(of: /(?i)set_config\s*\(\s*'([a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$]*)'/) {
            names.insert(match.1.lowercased())
        }
        return names.sorted()
    }

    /// Restores the state in a new session.
    func restore(on connection: isolated Connection) throws {
        let calls = settings.sorted { $0.key < $1.key }.map {
            "pg_catalog.set_config(\(quoteLiteral($0.key)), \(quoteLiteral($0.value)), false)"
        }
        if !calls.isEmpty { try connection.execute("SELECT " + calls.joined(separator: ", ")) }
        for statement in prepared { try connection.execute(statement) }
        let isOther: Bool? = try connection.query(
            "SELECT session_user OPERATOR(pg_catalog.<>) $1::pg_catalog.name", [user]
        ).first?.get(0)
        if isOther ?? false { try connection.execute("SET SESSION AUTHORIZATION \(quoteIdentifier(user))") }
        let set = role == "none" ? "NONE" : quoteIdentifier(role)
        try connection.execute("SET ROLE \(set)")
    }
}
