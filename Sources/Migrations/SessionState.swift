import Foundation
import Ledger
import Postgres
import SQL

/// The state that the statements of a script have left in their session.
struct SessionState: Codable, Equatable, Sendable {
    /// The settings that were made in the session, Reeve's included, in their base units.
    var settings: [String: String]
    var role: String
    var user: String
    /// The texts of the PREPARE statements, in their order.
    var prepared: [String]
    /// Whether the session has temporary objects or cursors, whose content cannot be restored.
    var hasTemporaryObjects: Bool

    /// Returns SQL for the state, as text in JSON. It is ASCII, and depends on no setting of the session.
    ///
    /// - Parameter marks: what the script may have left in the session.
    static func expression(_ marks: SessionMarks) -> String {
        let custom = marks.settings.map { "(\(MigrationLedger.literal($0)))" }.joined(separator: ", ")
        let listed =
            custom.isEmpty
            ? ""
            : """
                 UNION ALL SELECT c.name, pg_catalog.current_setting(c.name, true) FROM (VALUES \(custom)) c (name)
                    WHERE pg_catalog.current_setting(c.name, true) IS NOT NULL
            """
        return """
            pg_catalog.json_build_object(
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
    }

    static func read(_ marks: SessionMarks, on connection: isolated Connection) throws -> SessionState {
        let text: String? = try connection.query("SELECT \(expression(marks))").first?.get(0)
        return try JSONText(text ?? "").decode()
    }

    // MARK: Another session

    /// The state in a session that began with other settings: what the script has not changed is as it began.
    ///
    /// - Parameters:
    ///   - initial: the settings that the session of this state began with.
    ///   - now: the settings that the other session began with.
    func rebased(from initial: [String: String], to now: [String: String]) -> SessionState {
        var copy = self
        for name in Set(initial.keys).union(now.keys) where settings[name] == initial[name] {
            copy.settings[name] = now[name]
        }
        return copy
    }

    /// SQL that makes the settings and the role of a session those of this state.
    ///
    /// - Parameters:
    ///   - current: the settings of the session.
    ///   - local: whether they hold for the open transaction only.
    func adoption(from current: [String: String], local: Bool) -> [String] {
        let names = Set(settings.keys).union(current.keys).filter { settings[$0] != current[$0] }
        let calls = names.sorted().map {
            // NULL resets a setting.
            "pg_catalog.set_config(\(quoteLiteral($0)), \(settings[$0].map(quoteLiteral) ?? "NULL"), \(local))"
        }
        let word = local ? "LOCAL" : "SESSION"
        return (calls.isEmpty ? [] : ["SELECT " + calls.joined(separator: ", ")]) + [
            "SET \(word) SESSION AUTHORIZATION \(quoteIdentifier(user))",
            "SET \(word) ROLE \(role == "none" ? "NONE" : quoteIdentifier(role))",
        ]
    }
}

/// What the journal has of the session behind a step.
struct SessionRecord: Codable, Sendable {
    var state: SessionState
    /// The state that the session began with. Reeve may begin a later session with other settings, for instance another
    /// search path or lock timeout.
    var initial: SessionState
    /// Whether the settings may be those of the step's transaction, which have ended with it.
    var isProvisional: Bool
}
