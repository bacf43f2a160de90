import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

@Suite(.database(.systems), .timeLimit(.minutes(2)))
struct AdVideoTests {
    /// A user with two sessions; gives their identifiers.
    private func prepare() async throws -> (first: UUID, second: UUID) {
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = advideo")
            try connection.execute("INSERT INTO users (email, password_hash) VALUES ('demo@example.com', 'x')")
            let sessions = try connection.query(
                """
                INSERT INTO sessions (user_id, status, user_product_prompt, product_category)
                SELECT 1, 'generating_images', 'pink tennis shoes', 'footwear' FROM generate_series(1, 2) RETURNING id
                """)
            return (try sessions[0].get(0), try sessions[1].get(0))
        }
    }

    private func total(_ session: UUID) async throws -> String {
        try await TestDatabase.current.value("SELECT total_cost::text FROM advideo.sessions WHERE id = $1", [session])
    }

    private func cost(_ session: UUID, _ amount: String, on connection: isolated Connection) throws {
        try connection.query(
            "INSERT INTO advideo.generation_costs (session_id, category, amount) VALUES ($1, 'llm', $2::numeric)",
            [session, amount])
    }

    @Test func `a session begins with the defaults of the specification`() async throws {
        let session = try await prepare().first
        let row = try await TestDatabase.current.with {
            try $0.query("SELECT * FROM advideo.sessions WHERE id = $1", [session]).first
        }
        let found = try #require(row)
        #expect(try found.get("progress_percentage", as: Int.self) == 0)
        #expect(try found.get("num_images_requested", as: Int.self) == 6)
        #expect(try found.get("clip_duration_seconds", as: String.self) == "3.00")
        #expect(try found.get("generated_image_ids", as: [UUID].self).isEmpty)
        #expect(try found.get("background_music_enabled", as: Bool.self) == false)
        await #expect(throws: PostgresError.self) {
            try await TestDatabase.current.execute("UPDATE advideo.sessions SET progress_percentage = 101")
        }
        await #expect(throws: PostgresError.self) {
            try await TestDatabase.current.execute(
                "INSERT INTO advideo.users (email, password_hash) VALUES ('demo@example.com', 'y')")
        }
    }

    @Test(arguments: [
        (
            "session_status",
            "{created,prompting,generating_images,reviewing_images,generating_videos,reviewing_videos,composing,completed,failed,cancelled}"
        ),
        ("product_category", "{footwear,accessories,electronics,beauty,apparel,home,other}"),
        ("asset_type", "{image,video_clip,final_video,audio}"),
        ("asset_source", "{flux-pro,sdxl,stable-video-diffusion,runway-gen2,musicgen,ffmpeg,user-upload}"),
        ("asset_status", "{generating,completed,failed,approved,rejected}"),
        ("cost_category", "{llm,image_generation,video_generation,audio_generation,composition,storage,other}"),
    ])
    func `the labels stand in their order`(type: String, labels: String) async throws {
        let found: String = try await TestDatabase.current.value("SELECT enum_range(NULL::advideo.\(type))::text")
        #expect(found == labels)
    }

    @Test func `the total follows inserts, changes, deletes and moves`() async throws {
        let (first, second) = try await prepare()
        let database = try TestDatabase.current
        try await database.with { connection in
            try cost(first, "0.05", on: connection)
            try cost(first, "0.10", on: connection)
        }
        #expect(try await total(first) == "0.1500")
        try await database.execute("UPDATE advideo.generation_costs SET amount = 1 WHERE amount = 0.10")
        #expect(try await total(first) == "1.0500")
        try await database.with {
            try $0.query("UPDATE advideo.generation_costs SET session_id = $1 WHERE amount = 1", [second])
        }
        #expect(try await total(first) == "0.0500")
        #expect(try await total(second) == "1.0000")
        try await database.execute("DELETE FROM advideo.generation_costs WHERE amount = 1")
        #expect(try await total(second) == "0.0000")
        try await database.execute("TRUNCATE advideo.generation_costs")
        #expect(try await total(first) == "0.0000")
    }

    @Test func `two costs at the same time are both counted`() async throws {
        let session = try await prepare().first
        let database = try TestDatabase.current
        try await database.connection { one in
            try await one.with { connection in
                try connection.execute("BEGIN")
                try cost(session, "0.25", on: connection)
            }
            let other = Task { try await database.with { try cost(session, "0.50", on: $0) } }
            try await waitUntil("the second waits for the first") { try await database.waitersForLocks() > 0 }
            try await one.with { try $0.execute("COMMIT") }
            try await other.value
        }
        #expect(try await total(session) == "0.7500")
    }

    @Test func `moves in opposite directions do not wait for each other in a circle`() async throws {
        let (first, second) = try await prepare()
        let database = try TestDatabase.current
        try await database.with { connection in
            for _ in 0..<20 {
                try cost(first, "1", on: connection)
                try cost(second, "1", on: connection)
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (from, to) in [(first, second), (second, first)] {
                group.addTask {
                    try await database.with { connection in
                        for _ in 0..<15 {
                            try connection.query(
                                """
                                UPDATE advideo.generation_costs SET session_id = $2
                                WHERE id = (SELECT id FROM advideo.generation_costs WHERE session_id = $1 ORDER BY random() LIMIT 1)
                                """, [from, to])
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        let sums: Bool = try await database.value(
            "SELECT bool_and(total_cost = (SELECT sum(amount) FROM advideo.generation_costs c WHERE c.session_id = s.id)) FROM advideo.sessions s"
        )
        #expect(sums)
    }

    @Test func `what belongs to a user goes with them, and an asset's costs outlive it`() async throws {
        let session = try await prepare().first
        let database = try TestDatabase.current
        try await database.with { connection in
            try connection.query(
                """
                WITH image AS (
                    INSERT INTO advideo.assets (session_id, type, source, url) VALUES ($1, 'image', 'flux-pro', 'https://a') RETURNING id)
                INSERT INTO advideo.generation_costs (session_id, asset_id, category, amount)
                SELECT $1, id, 'image_generation', 0.05 FROM image
                """, [session])
            try connection.query(
                "INSERT INTO advideo.websocket_connections (session_id, connection_id) VALUES ($1, 'c')", [session])
            try connection.execute("DELETE FROM advideo.assets")
            #expect(
                try connection.query("SELECT asset_id FROM advideo.generation_costs").first?.get(0, as: UUID?.self)
                    == nil)
            try connection.execute("DELETE FROM advideo.users")
            let left = try connection.query(
                "SELECT (SELECT count(*) FROM advideo.sessions) + (SELECT count(*) FROM advideo.generation_costs) + (SELECT count(*) FROM advideo.websocket_connections)"
            ).first
            #expect(try left?.get(0, as: Int.self) == 0)
        }
    }

    @Test func `the sample queries answer`() async throws {
        let session = try await prepare().first
        try await TestDatabase.current.with { connection in
            try connection.execute("SET search_path = advideo")
            try connection.query(
                """
                INSERT INTO assets (session_id, type, source, status, url, view_type, seed, generation_cost, user_selected, selection_order)
                VALUES ($1, 'image', 'flux-pro', 'completed', 'https://1', 'front', 789456, 0.05, true, 2),
                       ($1, 'image', 'flux-pro', 'completed', 'https://2', 'side', 789456, 0.05, true, 1),
                       ($1, 'video_clip', 'runway-gen2', 'completed', 'https://3', NULL, NULL, 0.5, false, NULL)
                """, [session])
            try cost(session, "0.05", on: connection)
            let all = try connection.query(
                """
                SELECT s.*, (SELECT json_agg(a.* ORDER BY a.created_at) FROM assets a WHERE a.session_id = s.id AND a.type = 'image') AS images
                FROM sessions s WHERE s.id = $1
                """, [session])
            #expect(try all.first?.get("images", as: String.self).contains("https://2") == true)
            let board = try connection.query(
                """
                SELECT a.* FROM assets a WHERE a.session_id = $1 AND a.user_selected = TRUE AND a.deleted_at IS NULL
                ORDER BY a.selection_order ASC, a.created_at ASC
                """, [session])
            #expect(try board.map { try $0.get("url", as: String.self) } == ["https://2", "https://1"])
            let breakdown = try connection.query(
                """
                SELECT gc.category, gc.provider, COUNT(*) AS api_calls, SUM(gc.amount) AS total_cost, AVG(gc.api_latency_ms) AS avg_latency_ms
                FROM generation_costs gc WHERE gc.session_id = $1 GROUP BY gc.category, gc.provider ORDER BY total_cost DESC
                """, [session])
            #expect(try breakdown.first?.get("total_cost", as: String.self) == "0.0500")
            let active = try connection.query(
                """
                SELECT s.*, COUNT(DISTINCT a.id) FILTER (WHERE a.type = 'image') AS image_count
                FROM sessions s LEFT JOIN assets a ON a.session_id = s.id
                WHERE s.user_id = $1 AND s.status != 'completed' AND s.deleted_at IS NULL GROUP BY s.id ORDER BY s.updated_at DESC
                """, [1])
            #expect(active.count == 2)
            let touched = try connection.query(
                "UPDATE sessions SET updated_at = '2000-01-01' WHERE id = $1 RETURNING updated_at > now() - interval '1 h'",
                [session])
            #expect(try touched.first?.get(0, as: Bool.self) == true)
        }
    }

    @Test func `monthly partitions keep rows, totals, keys and triggers, and can be taken back`() async throws {
        let (first, second) = try await prepare()
        let database = try TestDatabase.current
        try await database.with { connection in
            try cost(first, "0.25", on: connection)
            try connection.query(
                "INSERT INTO advideo.generation_costs (session_id, category, amount, created_at) VALUES ($1, 'llm', 2, '2025-01-15')",
                [second])
        }
        let before = try await database.schemaDump()
        let migrator = try Migrator(
            database: Database(database.settings),
            systems: ShippedFixture.systems(["advideo"], options: ["advideo/partitioned-costs"]))
        #expect(try await migrator.up().done.map(\.name) == ["partitioned_costs"])
        let partitions: Int = try await database.value(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'advideo.generation_costs'::regclass")
        #expect(partitions > 12)
        let key: String = try await database.value(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'advideo.generation_costs'::regclass AND contype = 'p'"
        )
        #expect(key == "PRIMARY KEY (id, created_at)")
        try await database.with { try cost(first, "0.50", on: $0) }
        #expect(try await total(first) == "0.7500")
        #expect(try await total(second) == "2.0000")
        // A row of a month without a partition is kept, and moved when its month is made.
        try await database.with { connection in
            try connection.query(
                "INSERT INTO advideo.generation_costs (session_id, category, amount, created_at) VALUES ($1, 'llm', 3, now() + interval '5 months')",
                [second])
            let made = try connection.query("SELECT advideo.ensure_generation_cost_partitions(months_ahead => 6)").first
            #expect(try made?.get(0, as: Int.self) == 3)
            #expect(
                try connection.query("SELECT count(*) FROM ONLY advideo.generation_costs_default").first?.get(
                    0, as: Int.self) == 0)
        }
        #expect(try await total(second) == "5.0000")
        _ = try await Migrator(
            database: Database(database.settings),
            systems: ShippedFixture.systems(["advideo"]).filter { $0.name == "advideo" }
        ).down(to: 4)
        #expect(try await database.schemaDump() == before)
        #expect(try await total(second) == "5.0000")
        let rows: Int = try await database.value("SELECT count(*) FROM advideo.generation_costs")
        #expect(rows == 4)
    }
}
