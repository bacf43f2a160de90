import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// What the tests of the ad video system share.
enum AdVideo {
    /// A row for each session whose total is not the sum of its costs.
    static let wrongTotals = """
        SELECT s.id, s.total_cost, coalesce(c.sum, 0) AS sum
        FROM sessions s LEFT JOIN (SELECT session_id, sum(amount) FROM generation_costs GROUP BY session_id) c ON c.session_id = s.id
        WHERE s.total_cost IS DISTINCT FROM coalesce(c.sum, 0)
        """

    /// Makes a user with sessions.
    ///
    /// - Returns: the sessions in the order of their identifiers. In the table they stand in the opposite order, so
    ///   that a scan does not find them in this one by chance.
    static func sessions(_ count: Int) async throws -> [UUID] {
        try await TestDatabase.current.with { connection in
            try connection.query(
                """
                WITH owner AS (
                    INSERT INTO advideo.users (email, password_hash) VALUES (gen_random_uuid()::text, 'x') RETURNING id),
                made AS (
                    INSERT INTO advideo.sessions (id, user_id)
                    SELECT new.id, owner.id FROM owner, (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) new
                    ORDER BY new.id DESC RETURNING id)
                SELECT id FROM made ORDER BY id
                """, [count]
            ).map { try $0.get(0, as: UUID.self) }
        }
    }

    static func total(_ session: UUID) async throws -> String {
        try await TestDatabase.current.value("SELECT total_cost::text FROM advideo.sessions WHERE id = $1", [session])
    }

    static func expectExactTotals(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let wrong = try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = advideo")
            return try connection.query("SELECT t::text FROM (\(wrongTotals)) t").map { try $0.get(0, as: String.self) }
        }
        #expect(wrong == [], sourceLocation: sourceLocation)
    }

    /// Applies the opt-in migration that keeps costs in monthly partitions.
    static func partitionCosts() async throws {
        let migrator = try Migrator(
            database: Database(TestDatabase.current.settings),
            systems: ShippedFixture.systems(["advideo"], options: ["advideo/partitioned-costs"]))
        _ = try await migrator.up()
    }

    /// The query of a backup check, for the schema advideo.
    static func check(_ name: String) throws -> String {
        let path = "\(ShippedFixture.repository)/backups/checks/advideo/\(name).sql"
        let text = try String(contentsOfFile: path, encoding: .utf8).replacing("%schema%", with: "advideo")
        return text.trimmingCharacters(in: .whitespacesAndNewlines.union(CharacterSet(charactersIn: ";")))
    }

    /// Expects that the server refuses a statement.
    ///
    /// - Returns: the message and the hint, separated by a bar.
    @discardableResult
    static func expectRefusal(
        _ sqlState: String, of sql: String, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> String {
        let error = await #expect(throws: PostgresError.self, "\(sql)", sourceLocation: sourceLocation) {
            try await TestDatabase.current.execute("SET search_path = advideo", sql)
        }
        #expect(error?.sqlState == sqlState, "\(sql): \(error?.message ?? "")", sourceLocation: sourceLocation)
        return "\(error?.message ?? "")|\(error?.hint ?? "")"
    }
}
