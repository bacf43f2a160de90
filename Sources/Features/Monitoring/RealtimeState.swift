import Foundation
import Kernel
import Postgres
import Reporting
import SQL

/// Whether subscribers hear the changes that the systems of a database announce.
struct RealtimeState: Sendable, Equatable {
    struct Problem: Sendable, Equatable {
        /// Contains no host, user or database name.
        let message: String
        let mend: String
    }

    /// Why subscribers do not hear changes.
    var problems: [Problem] = []
    /// What works, and what could not be tried or matters only in some deployments.
    var notes: [String] = []

    /// The message for `/readyz`.
    var message: String { (problems.map(\.message) + notes).joined(separator: "; ") }

    /// The channel of the probe. The systems' channels are not used, because their subscribers do not expect other
    /// messages there.
    static let channel = "reeve_realtime"

    /// How long a notification may take.
    private static let limit: Duration = .seconds(5)

    /// Reads the state of a database.
    ///
    /// - Throws: the errors of the connection.
    static func read(_ open: OpenDatabase) async throws -> RealtimeState {
        let declared = open.systems.compactMap { system in system[RealtimeSection.section].map { (system, $0) } }
        var state = RealtimeState()
        let triggers = declared.flatMap { system, realtime in
            realtime.channels.sorted { $0.key < $1.key }.flatMap { channel, tables in
                tables.sorted { $0.key < $1.key }.map {
                    Wanted(name: channel, schema: system.schema, table: $0.key, events: $0.value)
                }
            }
        }
        let members = declared.flatMap { system, realtime in
            realtime.publications.sorted { $0.key < $1.key }.flatMap { publication, tables in
                tables.map { Wanted(name: publication, schema: system.schema, table: $0) }
            }
        }
        if !triggers.isEmpty || !members.isEmpty {
            state = try await open.database.pool.with(within: limit) { connection in
                var state = RealtimeState()
                if !triggers.isEmpty { try state.readTriggers(triggers, on: connection) }
                if !members.isEmpty { try state.readPublications(members, on: connection) }
                return state
            }
        }
        if declared.contains(where: { !$1.channels.isEmpty }) { try await state.tryNotification(open.database) }
        if state.problems.isEmpty, state.notes.isEmpty { state.notes = ["the systems announce no changes"] }
        return state
    }

    /// A table, and the channel or publication that it belongs to.
    struct Wanted: Sendable {
        let name: String
        let schema: String
        let table: String
        /// What the triggers of a channel must announce.
        var events: [ChangeEvent] = []
    }

    // MARK: Notifications

    /// Sends a notification, and waits until another connection receives it.
    private mutating func tryNotification(_ database: Database) async throws {
        do {
            if try await Self.isHeard(database) {
                notes.insert("notifications arrive", at: 0)
            } else {
                problems.append(
                    Problem(
                        message: "a notification did not arrive within \(Self.limit.components.seconds) s",
                        mend: "check that url and direct_url lead to the same database of the same server, and that "
                            + "the server is not overloaded"))
            }
        } catch let error as PostgresError where error.kind == .configuration {
            notes.append("notifications were not tried, because that requires a direct connection")
        } catch let error as PostgresError where error.sqlState == "54000" {
            problems.append(
                Problem(
                    message: "the server's queue of notifications is full",
                    mend: "end the session that keeps it full: a transaction that is open in a session that listens "
                        + "(pg_notification_queue_usage() shows how full it is)"))
        }
    }

    /// Each call has a connection of its own for listening. A connection that stays open would not show that a new
    /// subscriber can listen, and its session would hold up the server's queue of notifications if it hung.
    private static func isHeard(_ database: Database) async throws -> Bool {
        let token = UUID().uuidString
        return try await database.withDirectConnection(named: "reeve realtime") { listener in
            try await listener.with(within: limit) { try $0.listen(to: channel) }
            try await database.pool.with(within: limit) { connection in
                _ = try connection.query("SELECT pg_catalog.pg_notify($1, $2)", [channel, token])
            }
            return try await listener.with { connection in
                let end = ContinuousClock.now + limit
                while ContinuousClock.now < end {
                    // Other services use the same channel.
                    let arrived = try connection.notifications(within: end - .now)
                    if arrived.contains(where: { $0.channel == channel && $0.payload == token }) { return true }
                }
                return false
            }
        }
    }

    /// Finds tables of which no enabled trigger notifies the channel, or not of all events. A trigger notifies a
    /// channel if the source of its function, or one of its arguments, contains the channel's name as a word.
    private mutating func readTriggers(_ wanted: [Wanted], on connection: isolated Connection) throws {
        let rows = try connection.query(
            """
            SELECT w.name, w.schema, w.relation, c.oid IS NOT NULL AS found, w.events,
                   coalesce(t.announced, 0) AS announced, t.disabled
            FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[], $3::pg_catalog.text[], $4::pg_catalog.int4[])
                AS w (name, schema, relation, events)
            \(Self.tableJoin)
            LEFT JOIN LATERAL (
                SELECT pg_catalog.bit_or(g.tgtype) FILTER (WHERE g.tgenabled IN ('O', 'A'))::pg_catalog.int4 AS announced,
                       pg_catalog.min(g.tgname::pg_catalog.text) FILTER (WHERE g.tgenabled NOT IN ('O', 'A')) AS disabled
                FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid = g.tgfoid
                WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND
                    pg_catalog.concat_ws(' ', p.prosrc, pg_catalog.replace(pg_catalog.encode(g.tgargs, 'escape'), '\\000', ' '))
                    ~ pg_catalog.concat('(^|[^[:alnum:]_$])',
                        pg_catalog.regexp_replace(w.name, '([^[:alnum:]_])', '\\\\\\1', 'g'), '([^[:alnum:]_$]|$)')) t
                ON true
            ORDER BY w.schema, w.relation, w.name
            """,
            [
                wanted.map(\.name), wanted.map(\.schema), wanted.map(\.table),
                wanted.map { $0.events.reduce(0) { $0 | $1.rawValue } },
            ])
        for row in rows where try row.get("found") {
            let (schema, table): (String, String) = (try row.get("schema"), try row.get("relation"))
            let (channel, disabled): (String, String?) = (try row.get("name"), try row.get("disabled"))
            let (events, announced): (Int, Int) = (try row.get("events"), try row.get("announced"))
            let shown = "\(visible(schema)).\(visible(table))"
            let missing = ChangeEvent.allCases.filter { events & ~announced & $0.rawValue != 0 }
            if let disabled, events == 0 || !missing.isEmpty {
                problems.append(
                    Problem(
                        message: "the trigger \(visible(disabled)) of \(shown), which notifies \(visible(channel)), is "
                            + "disabled",
                        mend: "ALTER TABLE \(quoteIdentifier(schema)).\(quoteIdentifier(table)) ENABLE TRIGGER "
                            + "\(quoteIdentifier(disabled))"))
            } else if announced == 0 || !missing.isEmpty {
                let what = missing.map { " of \($0.word)s" }.first
                problems.append(
                    Problem(
                        message: "no trigger of \(shown) notifies \(visible(channel))\(what ?? "")",
                        mend: "apply the migrations that create the trigger, or change 'realtime' in system.yaml"))
            }
        }
    }

    // MARK: Publications

    /// Finds tables that are not in their publication. A publication that does not exist is no problem: nobody streams
    /// from it.
    private mutating func readPublications(_ wanted: [Wanted], on connection: isolated Connection) throws {
        let ofSchema =
            connection.serverVersion >= 150_000
            ? """
            OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
            """ : ""
        let rows = try connection.query(
            """
            SELECT w.name, w.schema, w.relation, c.oid IS NOT NULL AS found, p.oid IS NOT NULL AS published,
                   p.puballtables OR EXISTS (
                       SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid
                           OR r.prrelid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) a)))
                   \(ofSchema) AS member,
                   p.pubinsert AND p.pubupdate AND p.pubdelete AS whole,
                   pg_catalog.current_setting('wal_level') AS level
            FROM unnest($1::pg_catalog.text[], $2::pg_catalog.text[], $3::pg_catalog.text[]) AS w (name, schema, relation)
            \(Self.tableJoin)
            LEFT JOIN pg_catalog.pg_publication p ON p.pubname = w.name
            ORDER BY w.name, w.schema, w.relation
            """, [wanted.map(\.name), wanted.map(\.schema), wanted.map(\.table)])
        var streamed = 0
        var (missing, partial): (Set<String>, Set<String>) = ([], [])
        for row in rows {
            let (publication, schema, table): (String, String, String) = (
                try row.get("name"), try row.get("schema"), try row.get("relation")
            )
            guard try row.get("published") else {
                missing.insert(publication)
                continue
            }
            guard try row.get("found") else { continue }
            if try row.get("member") {
                streamed += 1
                if try !row.get("whole") { partial.insert(publication) }
            } else {
                problems.append(
                    Problem(
                        message: "\(visible(schema)).\(visible(table)) is not in the publication "
                            + visible(publication),
                        mend: "as its owner: ALTER PUBLICATION \(quoteIdentifier(publication)) ADD TABLE "
                            + "\(quoteIdentifier(schema)).\(quoteIdentifier(table))"))
            }
        }
        if streamed > 0 { notes.append("\(counted(streamed, "table")) published") }
        for name in missing.sorted() { notes.append("there is no publication \(visible(name))") }
        for name in partial.sorted() { notes.append("\(visible(name)) does not publish all changes") }
        if streamed > 0, let level: String = try rows.first?.get("level"), level != "logical" {
            notes.append("nothing is streamed from publications, because wal_level is \(level)")
        }
    }

    /// Joins the table `c` of a row `w`; its columns are NULL if the table does not exist. Whether migrations are
    /// pending is the business of another probe.
    private static let tableJoin = """
        LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
        LEFT JOIN pg_catalog.pg_class c
            ON c.relnamespace = n.oid AND c.relname = w.relation AND c.relkind IN ('r', 'p')
        """
}
