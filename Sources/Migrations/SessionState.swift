import Foundation
import Postgres
import RegexBuilder
import SQL

/// The state that the statements of a script have left in their session. The journal records it with each step, so that
/// an interrupted migration continues in a new session with the same state.
struct SessionState: Codable, Equatable, Sendable {
    /// The settings that were made in the session, in their base units.
    var settings: [String: String]
    /// The settings that Reeve had made in the session and that the script has reset.
    var reset: [String]?
    var role: String
    var user: String
    /// The texts of the PREPARE statements.
    var prepared: [String]
    /// Whether the session has temporary objects or cursors, whose content cannot be restored.
    var hasTemporaryObjects: Bool
    /// Whether the settings may be those of a transaction, which have ended with it (`SettingStatements`).
    var isProvisional: Bool?

    /// Reads the state. Depends on no setting of the session.
    ///
    /// - Parameter marks: what the script may have left in the session.
    static func read(_ marks: Marks, on connection: isolated Connection) throws -> SessionState {
        let names = marks.settings
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
                    OR EXISTS (
                        SELECT FROM pg_catalog.pg_type t
                        WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
                    OR EXISTS (
                        SELECT FROM pg_catalog.pg_proc p
                        WHERE p.pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
                    OR EXISTS (SELECT FROM pg_catalog.pg_cursors c WHERE c.is_holdable)
            )::pg_catalog.text
            """
        ).first?.get(0)
        var state = try JSONDecoder().decode(SessionState.self, from: Data((text ?? "").utf8))
        // Functions can prepare statements too, and the text that a function has sent is not run again with the rights
        // of this session.
        if !state.prepared.allSatisfy(marks.prepared.contains) {
            state.prepared = []
            state.hasTemporaryObjects = true
        }
        return state
    }

    /// What a script may leave in its session, as far as its text shows it.
    struct Marks: Sendable {
        /// Settings with a name of several parts, such as `app.tenant`. The server does not list them.
        let settings: [String]
        /// The texts of the PREPARE statements.
        let prepared: Set<String>

        init(of script: MigrationScript) throws {
            let name = #/"?[a-z_][a-z0-9_$]*"?(?:\."?[a-z_][a-z0-9_$]*"?)+/#.ignoresCase()
            let set = Regex {
                #/\bset(?:\s+session|\s+local)?\s+/#.ignoresCase()
                Capture { name }
            }
            let literal = Regex {
                "'"
                Capture { name }
            }
            // The data of COPY are not searched, nor are statements that set nothing.
            let setting = script.statements.filter { script.source[$0.range].mentions("set") }
            let names = setting.flatMap { statement in
                let text = script.text(of: statement)
                // The name may be a literal, if it is passed to the function.
                let passed =
                    script.source[statement.range].mentions("set_config") ? text.matches(of: literal).map(\.1) : []
                return text.matches(of: set).map(\.1) + passed
            }
            settings = Set(names.map { $0.lowercased().filter { $0 != "\"" } }).sorted()
            prepared = Set(
                try script.statements.filter { try script.words(of: $0).first?.keyword == "PREPARE" }.map(script.text))
        }
    }

    /// The state without settings that differ from those of a new session.
    var withoutSettings: SessionState {
        SessionState(settings: [:], role: role, user: user, prepared: [], hasTemporaryObjects: false)
    }

    /// Restores the state in a new session.
    func restore(on connection: isolated Connection) throws {
        let calls =
            (reset ?? []).map { "pg_catalog.set_config(\(quoteLiteral($0)), NULL, false)" }
            + settings.sorted { $0.key < $1.key }.map {
                "pg_catalog.set_config(\(quoteLiteral($0.key)), \(quoteLiteral($0.value)), false)"
            }
        if !calls.isEmpty { try connection.execute("SELECT " + calls.joined(separator: ", ")) }
        try restorePrepared(on: connection)
        let isOther: Bool? = try connection.query(
            "SELECT session_user OPERATOR(pg_catalog.<>) $1::pg_catalog.name", [user]
        ).first?.get(0)
        if isOther ?? false { try connection.execute("SET SESSION AUTHORIZATION \(quoteIdentifier(user))") }
        let set = role == "none" ? "NONE" : quoteIdentifier(role)
        try connection.execute("SET ROLE \(set)")
    }

    /// Makes the prepared statements again.
    func restorePrepared(on connection: isolated Connection) throws {
        for statement in prepared {
            // A statement cannot be prepared again if a later step has dropped what it uses. It could not run either.
            do { try connection.execute(statement) } catch let error as PostgresError where error.kind == .server {}
        }
    }
}
