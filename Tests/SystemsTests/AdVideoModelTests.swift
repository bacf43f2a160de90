import Foundation
import Postgres
import TestSupport
import Testing

/// Random statements of workers and administrators at once: every total is the sum of its costs at every instant.
@Suite(.database(.systems), .heavy, .timeLimit(.minutes(60)))
struct AdVideoModelTests {
    private static func statement(_ name: String, weight: Int = 1, _ sql: String) -> RandomCalls.Call {
        RandomCalls.Call(name, weight: weight) { connection, _ in try connection.execute(sql) }
    }

    /// Changes costs of a session, which is locked before in a statement of its own: the snapshot of the change is then
    /// not older than the lock, and does not show costs that have gone to another session.
    private static func change(_ name: String, weight: Int, _ sql: String) -> RandomCalls.Call {
        RandomCalls.Call(name, weight: weight) { connection, _ in
            let session = try connection.query("SELECT id FROM sessions ORDER BY random() LIMIT 1").first
            guard let id = try session?.get(0, as: UUID.self) else { return }
            try connection.transaction {
                try connection.query("SELECT FROM sessions WHERE id = $1 FOR NO KEY UPDATE", [id])
                // A row that changes its partition is checked again, so its asset is locked before it, too.
                try connection.query(
                    """
                    SELECT FROM assets WHERE id IN (SELECT asset_id FROM generation_costs WHERE session_id = $1)
                    ORDER BY id FOR KEY SHARE
                    """, [id])
                try connection.query("\(sql) WHERE session_id = $1 AND random() < 0.5", [id])
            }
        }
    }
    private static let amount = "(random() * 20 - 5)::numeric(10, 4)"

    private static func calls(createdAt: String) -> [RandomCalls.Call] {
        [
            statement(
                "add a session",
                """
                INSERT INTO sessions (user_id, total_cost) SELECT id, random() FROM users
                WHERE (SELECT count(*) FROM sessions) < 60 ORDER BY random() LIMIT 1
                """),
            statement("add a user", "INSERT INTO users (email, password_hash) VALUES (gen_random_uuid()::text, 'x')"),
            statement(
                "add assets", weight: 2,
                "INSERT INTO assets (session_id, type, source, url) SELECT id, 'image', 'sdxl', '' FROM sessions ORDER BY random() LIMIT 1"
            ),
            statement(
                "add a cost", weight: 10,
                """
                INSERT INTO generation_costs (session_id, asset_id, category, amount, created_at)
                SELECT s.id, (SELECT a.id FROM assets a WHERE a.session_id = s.id ORDER BY random() LIMIT 1), 'llm', \(amount), \(createdAt)
                FROM sessions s ORDER BY random() LIMIT 1
                """),
            statement(
                "add costs of several sessions in any order", weight: 6,
                """
                INSERT INTO generation_costs (session_id, category, amount, created_at)
                SELECT s.id, 'llm', \(amount), \(createdAt) FROM sessions s, generate_series(1, 3) ORDER BY random() LIMIT 20
                """),
            RandomCalls.Call("add costs of one session in several statements", weight: 2) { connection, _ in
                let session = try connection.query("SELECT id FROM sessions ORDER BY random() LIMIT 1").first
                guard let id = try session?.get(0, as: UUID.self) else { return }
                try connection.transaction {
                    for _ in 0..<3 {
                        try connection.query(
                            "INSERT INTO generation_costs (session_id, category, amount) VALUES ($1, 'other', \(amount))",
                            [id])
                    }
                    try connection.query(
                        "UPDATE sessions SET progress_percentage = 50, total_cost = 3 WHERE id = $1", [id])
                }
            },
            change("change costs", weight: 3, "UPDATE generation_costs SET amount = \(amount)"),
            change("delete costs", weight: 3, "DELETE FROM generation_costs"),
            RandomCalls.Call("move costs", weight: 3) { connection, _ in
                let rows = try connection.query("SELECT id FROM sessions ORDER BY random() LIMIT 2")
                guard rows.count == 2 else { return }
                let (from, to) = (try rows[0].get(0, as: UUID.self), try rows[1].get(0, as: UUID.self))
                try connection.transaction {
                    try connection.query(
                        "SELECT FROM sessions WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE", [from, to])
                    try connection.query(
                        "UPDATE generation_costs SET session_id = $2, amount = amount + 1 WHERE session_id = $1",
                        [from, to])
                }
            },
            statement(
                "write a total", weight: 2,
                "UPDATE sessions SET total_cost = 999, status = 'composing' WHERE id = (SELECT id FROM sessions ORDER BY random() LIMIT 1)"
            ),
            statement(
                "sum again",
                "UPDATE sessions SET total_cost = NULL WHERE id = (SELECT id FROM sessions ORDER BY random() LIMIT 1)"),
            statement(
                "delete an asset", "DELETE FROM assets WHERE id = (SELECT id FROM assets ORDER BY random() LIMIT 1)"),
            statement(
                "delete a session",
                """
                DELETE FROM sessions WHERE id = (SELECT id FROM sessions ORDER BY random() LIMIT 1)
                AND (SELECT count(*) FROM sessions) > 20
                """),
            // A transaction that writes a session twice locks its user. So who deletes a user begins with the sessions,
            // and with those alone that were locked together: another may be added meanwhile.
            RandomCalls.Call("delete a user") { connection, _ in
                let user = try connection.query(
                    """
                    SELECT id FROM users
                    WHERE (SELECT count(*) FROM users) > 10 AND (SELECT count(*) FROM sessions) > 20 ORDER BY random() LIMIT 1
                    """
                ).first
                guard let id = try user?.get(0, as: Int.self) else { return }
                try connection.query(
                    """
                    WITH locked AS MATERIALIZED (SELECT id FROM sessions WHERE user_id = $1 ORDER BY id FOR UPDATE)
                    DELETE FROM sessions WHERE id IN (SELECT id FROM locked)
                    """, [id])
                try connection.query(
                    "DELETE FROM users WHERE id = $1 AND NOT EXISTS (SELECT FROM sessions WHERE user_id = $1)", [id])
            },
            RandomCalls.Call("roll back") { connection, _ in
                try connection.execute("BEGIN")
                do {
                    try connection.execute(
                        "INSERT INTO generation_costs (session_id, category, amount) SELECT id, 'llm', 77 FROM sessions ORDER BY random() LIMIT 1"
                    )
                } catch {
                    try connection.execute("ROLLBACK")
                    throw error
                }
                try connection.execute("ROLLBACK")
            },
        ]
    }

    private static func run(_ calls: [RandomCalls.Call], refusals: Set<String>) async throws {
        _ = try await AdVideo.sessions(30)
        try await TestDatabase.current.execute(
            "INSERT INTO advideo.users (email, password_hash) SELECT n::text, 'x' FROM generate_series(1, 20) n")
        let model = RandomCalls(
            schema: "advideo", calls: calls,
            invariants: [
                .init("the total is the sum", AdVideo.wrongTotals),
                .init("the backup check finds nothing", try AdVideo.check("orphans")),
            ],
            // A session or an asset is deleted while a cost of it waits.
            refusals: refusals)
        try await model.run()
    }

    @Test func `totals are sums, and nobody waits in a circle`() async throws {
        try await Self.run(Self.calls(createdAt: "now()"), refusals: ["23503"])
    }

    @Test func `totals are sums with monthly partitions that are made meanwhile`() async throws {
        try await AdVideo.partitionCosts()
        let times = "now() + random() * interval '300 days'"
        let calls =
            Self.calls(createdAt: times) + [
                Self.change(
                    "change the month of costs", weight: 2, "UPDATE generation_costs SET created_at = \(times)"),
                RandomCalls.Call("make partitions") { connection, generator in
                    // Now and then a month, so that there is always one to make.
                    let months =
                        Int.random(in: 0..<400, using: &generator) < 390 ? 3 : Int.random(in: 4...12, using: &generator)
                    try connection.execute("SELECT ensure_generation_cost_partitions(months_ahead => \(months))")
                },
            ]
        // The function promises something to those who wait as long as the server's default is.
        let patient = calls.map { call in
            RandomCalls.Call(call.name, weight: call.weight) { connection, generator in
                try connection.execute("SET deadlock_timeout = '1s'")
                try call.body(connection, &generator)
            }
        }
        // A row changes its partition while somebody waits for it; a maker did not get its locks.
        try await Self.run(patient, refusals: ["23503", "40001", "55P03"])
    }
}
