import Foundation
import Postgres
import Storage
import TestSupport
import Testing

@testable import Auditing
@testable import Kernel
@testable import Ledger
@testable import ReeveApp

/// The audit chain attacked by the owner of its schema, who may do anything in the database and nothing outside.
@Suite(.database, .timeLimit(.minutes(5)))
struct AuditTests {
    private let state = "/tmp/reeve-audit-\(UUID().uuidString.prefix(8))"
    private var repository: String { "\(state)-repository" }

    private var environment: [String: String] {
        ["REEVE_STATE": state, "REEVE_BACKUP_REPOSITORY": repository, "REEVE_BACKUP_ENCRYPTION": "none"]
    }

    private func reeve(
        _ arguments: [String], environment more: [String: String] = [:]
    ) async throws -> (object: [String: Any], status: Int32) {
        let database = try TestDatabase.current
        let (object, ending) = try await ReeveBinary.json(
            arguments, on: database.settings, environment: environment.merging(more) { $1 })
        if case .exited(let status) = ending { return (object, status) }
        Issue.record("it was killed: \(ending)")
        return (object, -1)
    }

    private func append(_ count: Int) async throws {
        try initializeRepository(repository)
        try await TestDatabase.current.with { connection in
            try LedgerSchema.install(on: connection)
            for number in 0..<count {
                try Audit.append(actor: "a", action: "test.did", subject: "s\(number)", on: connection)
            }
        }
    }

    /// Twenty entries, anchored after ten and after all.
    private func anchored() async throws {
        try await append(10)
        #expect(try await reeve(["audit", "anchor"]).status == 0)
        try await append(10)
        let anchored = try await reeve(["audit", "anchor"])
        #expect(anchored.status == 0, "\(anchored.object)")
    }

    private func problems(_ object: [String: Any]) -> String {
        (object["problems"] as? [String] ?? []).joined(separator: "\n")
    }

    private func cleanUp() {
        for folder in [state, repository] { try? FileManager.default.removeItem(atPath: folder) }
    }

    /// Computes all hashes anew, as the owner can.
    private static let rechained = """
        DO $$
        DECLARE
            one record;
            before bytea := decode(repeat('00', 32), 'hex');
            last bigint := 0;
        BEGIN
            FOR one IN SELECT * FROM reeve.audit ORDER BY seq LOOP
                UPDATE reeve.audit SET previous = before, hash = sha256(before || convert_to(entry, 'UTF8'))
                WHERE seq = one.seq;
                SELECT hash INTO before FROM reeve.audit WHERE seq = one.seq;
                last := one.seq;
            END LOOP;
            UPDATE reeve.audit_head SET seq = last, hash = before;
        END $$
        """

    @Test func `an untouched chain is told how far it is anchored, by what and with which key`() async throws {
        defer { cleanUp() }
        try await append(3)
        let bare = try await reeve(["audit", "verify"])
        #expect(bare.status == 0 && bare.object["anchored_to"] is NSNull)
        #expect(!FileManager.default.fileExists(atPath: "\(state)/audit.key"))
        let text = try await ReeveBinary.run(
            ["audit", "verify"], on: TestDatabase.current.settings, environment: environment)
        #expect(text.output.contains("not anchored: the owner"))
        #expect(try await reeve(["audit", "anchor"]).status == 0)
        let again = try await reeve(["audit", "anchor"])
        #expect((again.object["anchors"] as? [[String: Any]])?.first?["new"] as? Bool == false)
        try await append(2)
        let (object, status) = try await reeve(["audit", "verify"])
        #expect(status == 0 && object["intact"] as? Bool == true && object["entries"] as? Int == 5, "\(object)")
        #expect(object["anchored_to"] as? Int == 3 && object["not_anchored"] as? Int == 2)
        let places = (object["anchors"] as? [[String: Any]])?.compactMap { $0["place"] as? String }
        #expect(places?.sorted() == ["\(state)/audit.anchors", repository].sorted())
        #expect((object["key"] as? String)?.utf8.count == 16)
        let attributes = try FileManager.default.attributesOfItem(atPath: "\(state)/audit.key")
        #expect(attributes[.posixPermissions] as? Int == 0o600)
    }

    @Test(arguments: [
        (
            "an entry edited, the guard switched off",
            "UPDATE reeve.audit SET entry = replace(entry, 's4', 'x4') WHERE seq = 5", 5,
            "does not follow from the previous entry"
        ),
        ("a gap", "DELETE FROM reeve.audit WHERE seq = 7", 7, "does not follow from the previous entry"),
        (
            "two entries in each other's place",
            """
            UPDATE reeve.audit a SET entry = b.entry, hash = decode(md5(b.hash) || md5(b.hash), 'hex')
            FROM (SELECT * FROM reeve.audit) b WHERE (a.seq, b.seq) IN ((3, 4), (4, 3))
            """, 3, "does not follow from the previous entry"
        ),
        (
            "the end cut off and the head moved back",
            """
            DELETE FROM reeve.audit WHERE seq > 15;
            UPDATE reeve.audit_head SET seq = 15, hash = (SELECT hash FROM reeve.audit WHERE seq = 15)
            """, 16, "the chain was cut off: it had 20 entries"
        ),
        (
            "an entry changed and all hashes computed anew",
            "UPDATE reeve.audit SET entry = replace(entry, 's4', 'x4') WHERE seq = 5; \(rechained)", 1,
            "the chain was rewritten: entry 10"
        ),
        (
            "an entry behind the first anchor changed and all hashes computed anew",
            "UPDATE reeve.audit SET entry = replace(entry, 's4', 'x4') WHERE seq = 15; \(rechained)", 11,
            "the chain was rewritten: entry 20"
        ),
        (
            "the chain emptied and begun again",
            """
            DELETE FROM reeve.audit;
            UPDATE reeve.audit_head SET seq = 0, hash = decode(repeat('00', 32), 'hex');
            SELECT reeve.append_audit('a', 'b', 'c', '{}') FROM generate_series(1, 30)
            """, 1, "the chain was rewritten"
        ),
    ])
    func `what the owner does to the chain is told`(
        attack: String, sql: String, brokenAt: Int, said: String
    ) async throws {
        defer { cleanUp() }
        try await anchored()
        try await TestDatabase.current.execute(
            "ALTER TABLE reeve.audit DISABLE TRIGGER USER; \(sql); ALTER TABLE reeve.audit ENABLE TRIGGER USER")
        let (object, status) = try await reeve(["audit", "verify"])
        #expect(status == 3 && object["intact"] as? Bool == false, "\(attack): \(object)")
        #expect(object["broken_at"] as? Int == brokenAt, "\(attack): \(object)")
        #expect(problems(object).contains(said), "\(attack): \(object)")
        // What does not go on from its anchor is not anchored, so that no later anchor covers it up.
        if said.contains("rewritten") || said.contains("cut off") {
            let anchor = try await reeve(["audit", "anchor"])
            #expect(anchor.status == 3, "\(attack): \(anchor.object)")
        } else {
            // Nor does anybody's word make a chain whose entries do not follow from each other an accepted one.
            let before = try String(contentsOfFile: "\(state)/audit.anchors", encoding: .utf8)
            let accepted = try await reeve([
                "audit", "anchor", "--accept", "it is right", "--confirm", try TestDatabase.current.name,
            ])
            #expect(accepted.status == 3, "\(attack): \(accepted.object)")
            #expect(try String(contentsOfFile: "\(state)/audit.anchors", encoding: .utf8) == before)
        }
    }

    @Test func `without the anchors of the state folder a cut chain does not go on from those of the repository`()
        async throws
    {
        defer { cleanUp() }
        try await anchored()
        try FileManager.default.removeItem(atPath: "\(state)/audit.anchors")
        let kept = { try FileManager.default.subpathsOfDirectory(atPath: "\(repository)/audit.anchors").sorted() }
        let before = try kept()
        try await TestDatabase.current.execute(
            """
            ALTER TABLE reeve.audit DISABLE TRIGGER USER; DELETE FROM reeve.audit WHERE seq > 15;
            UPDATE reeve.audit_head SET seq = 15, hash = (SELECT hash FROM reeve.audit WHERE seq = 15);
            ALTER TABLE reeve.audit ENABLE TRIGGER USER
            """)
        let anchor = try await reeve(["audit", "anchor"])
        #expect(anchor.status == 3 && "\(anchor.object)".contains("anchored up to entry 20"), "\(anchor.object)")
        #expect(try kept() == before && !before.isEmpty)
    }

    @Test func `a ledger that was dropped and made anew is told, and one that is gone`() async throws {
        defer { cleanUp() }
        try await anchored()
        try await TestDatabase.current.execute("DROP SCHEMA reeve CASCADE")
        let gone = try await reeve(["audit", "verify"])
        #expect(gone.status == 3 && problems(gone.object).contains("the ledger does not exist"), "\(gone.object)")
        try await append(25)
        let (object, status) = try await reeve(["audit", "verify"])
        #expect(status == 3 && problems(object).contains("the ledger was replaced"), "\(object)")
        #expect(try await reeve(["audit", "anchor"]).status == 3)
        // Who has the key may say that it is right so.
        let unconfirmed = try await reeve(["audit", "anchor", "--accept", "a new beginning", "--no-input"])
        #expect(unconfirmed.status == 6)
        let accepted = try await reeve([
            "audit", "anchor", "--accept", "a new beginning", "--confirm", try TestDatabase.current.name,
        ])
        #expect(accepted.status == 0, "\(accepted.object)")
        let after = try await reeve(["audit", "verify"])
        #expect(after.status == 0 && after.object["anchored_to"] as? Int == 25, "\(after.object)")
        #expect((after.object["accepted"] as? [String: Any])?["note"] as? String != nil)
    }

    @Test func `edited, copied and missing anchors are told`() async throws {
        defer { cleanUp() }
        try await anchored()
        let file = "\(state)/audit.anchors"
        let kept = try String(contentsOfFile: file, encoding: .utf8)
        func rewrite(_ text: String) throws {
            try Data(text.utf8).write(to: URL(fileURLWithPath: file))
            chmod(file, 0o600)
        }
        // The number of entries that the newest vouches for.
        try rewrite(kept.replacing(" 20 ", with: " 21 "))
        let edited = try await reeve(["audit", "verify"])
        #expect(edited.status == 3 && problems(edited.object).contains("forged"), "\(edited.object)")
        try rewrite(kept + "nothing that an anchor is\n")
        let garbage = try await reeve(["audit", "verify"])
        #expect(garbage.status == 3 && problems(garbage.object).contains("forged"))
        // One of another database, under this one's name.
        let key = try #require(try SigningKeyFile(path: "\(state)/audit.key").read())
        let other = AuditAnchor(
            of: AuditIdentity(ledger: UUID(), server: "1", database: "x"), name: "main", entries: 99,
            hash: [UInt8](repeating: 1, count: 32), key: key)
        try rewrite(kept + other.text + "\n")
        let foreign = try await reeve(["audit", "verify"])
        #expect(foreign.status == 0, "\(foreign.object)")
        #expect((foreign.object["notes"] as? [String])?.joined().contains("another database") == true)
        // Gone from one place: the other still vouches, and that is said.
        try rewrite(kept)
        try FileManager.default.removeItem(atPath: "\(repository)/audit.anchors")
        let removed = try await reeve(["audit", "verify"])
        #expect(removed.status == 0 && removed.object["anchored_to"] as? Int == 20)
        #expect((removed.object["notes"] as? [String])?.joined().contains(repository) == true, "\(removed.object)")
        // The next anchoring writes it there again.
        #expect(try await reeve(["audit", "anchor"]).status == 0)
        let healed = try await reeve(["audit", "verify"])
        #expect((healed.object["anchors"] as? [[String: Any]])?.count == 2)
        // Gone everywhere: nothing vouches for anything.
        try FileManager.default.removeItem(atPath: "\(repository)/audit.anchors")
        try FileManager.default.removeItem(atPath: file)
        let bare = try await ReeveBinary.run(
            ["audit", "verify"], on: TestDatabase.current.settings, environment: environment)
        #expect(bare.output.contains("not anchored: the owner"), "\(bare.output)")
        // The log has it still.
        let log = "\(state)/log"
        try kept.split(separator: "\n").map { "{\"message\":\"the audit chain is anchored\",\"anchor\":\"\($0)\"}" }
            .joined(separator: "\n").write(toFile: log, atomically: true, encoding: .utf8)
        let byLog = try await reeve(["audit", "verify", "--anchors", log])
        #expect(byLog.status == 0 && byLog.object["anchored_to"] as? Int == 20, "\(byLog.object)")
    }

    @Test func `without its key nothing is called intact`() async throws {
        defer { cleanUp() }
        try await anchored()
        let key = "\(state)/audit.key"
        try FileManager.default.moveItem(atPath: key, toPath: "\(key).kept")
        let missing = try await reeve(["audit", "verify"])
        #expect(missing.status == 3 && missing.object["intact"] as? Bool == false, "\(missing.object)")
        #expect(problems(missing.object).contains("does not exist"))
        #expect(!FileManager.default.fileExists(atPath: key))
        try FileManager.default.createSymbolicLink(atPath: key, withDestinationPath: "\(key).kept")
        let link = try await reeve(["audit", "verify"])
        #expect(link.status == 3 && problems(link.object).contains("it is a symbolic link"), "\(link.object)")
        #expect(try await reeve(["audit", "anchor"]).status == 2)
        try FileManager.default.removeItem(atPath: key)
        try FileManager.default.copyItem(atPath: "\(key).kept", toPath: key)
        chmod(key, 0o644)
        let open = try await reeve(["audit", "verify"])
        #expect(open.status == 3 && problems(open.object).contains("other users may access it"), "\(open.object)")
        chmod(key, 0o600)
        #expect(try await reeve(["audit", "verify"]).status == 0)
        // Another key: what was anchored cannot be checked by it.
        try FileManager.default.removeItem(atPath: key)
        try Data((String(repeating: "ab", count: 32) + "\n").utf8).write(to: URL(fileURLWithPath: key))
        chmod(key, 0o600)
        let other = try await reeve(["audit", "verify"])
        #expect(other.status == 3 && problems(other.object).contains("made with the key"), "\(other.object)")
    }

    @Test func `many who make the key at once get the same one`() async throws {
        defer { cleanUp() }
        let file = SigningKeyFile(path: "\(state)/deep/audit.key")
        let ids = await withTaskGroup(of: String?.self) { group in
            for _ in 0..<16 { group.addTask { try? file.readOrMake().id } }
            return await group.reduce(into: Set<String?>()) { $0.insert($1) }
        }
        #expect(ids.count == 1 && ids.first != .some(nil))
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(state)/deep") == ["audit.key"])
    }

    @Test func `a backup anchors the chain, and neither clearing nor expiry touches the anchors`() async throws {
        defer { cleanUp() }
        try await TestDatabase.current.execute("CREATE TABLE public.t (id integer PRIMARY KEY)")
        try initializeRepository(repository)
        let created = try await reeve(["backup", "create"])
        #expect(created.status == 0, "\(created.object)")
        let verified = try await reeve(["audit", "verify"])
        #expect(verified.object["anchored_to"] as? Int == verified.object["entries"] as? Int, "\(verified.object)")
        #expect(try await reeve(["backup", "create"]).status == 0)
        let backups = try await reeve(["backup", "verify", "--all"])
        #expect(backups.status == 0 && (backups.object["orphans"] as? [String]) == [], "\(backups.object)")
        #expect(try await reeve(["backup", "prune", "--confirm", "main"]).status == 0)
        let after = try await reeve(["audit", "verify"])
        let places = after.object["anchors"] as? [[String: Any]]
        #expect(places?.allSatisfy { $0["anchors"] as? Int == 2 } == true, "\(after.object)")
    }

    @Test func `the service anchors by its schedule, in the log too, and tidies`() async throws {
        defer { cleanUp() }
        let database = try TestDatabase.current
        let socket = "\(state)-socket"
        try initializeRepository(repository)
        let served = try RunningReeve(
            ["serve"],
            environment: ReeveBinary.environment(
                database.settings,
                environment.merging([
                    "REEVE_HTTP_LISTEN": "unix:\(socket)", "REEVE_SYSTEMS": "publisher",
                    "REEVE_TASKS_MIGRATE_ENABLED": "yes",
                    "REEVE_TASKS_ANCHOR_EVERY": "1s", "REEVE_TASKS_TIDY_EVERY": "1s",
                    "REEVE_TASKS_BACKUP_ENABLED": "no",
                ]) { $1 }))
        try await waitUntil("the log has an anchor") {
            served.output.split(separator: "\n").contains { AuditAnchor(String($0)).map { $0.entries > 0 } ?? false }
        }
        try await waitUntil("it has tidied") {
            try await database.value(
                "SELECT count(*) FROM reeve.task_totals WHERE task = 'tidy' AND succeeded > 0", as: Int.self) == 1
        }
        served.signal(SIGTERM)
        #expect(try await served.end() == 0)
        let log = "\(state)/log"
        try served.output.write(toFile: log, atomically: true, encoding: .utf8)
        for place in ["\(state)/audit.anchors", "\(repository)/audit.anchors"] {
            try FileManager.default.removeItem(atPath: place)
        }
        let byLog = try await reeve(["audit", "verify", "--anchors", log])
        #expect(byLog.status == 0 && (byLog.object["anchored_to"] as? Int ?? 0) > 0, "\(byLog.object)")
    }
}

/// Places of anchors that fail or hang.
@Suite(.database, .timeLimit(.minutes(2)))
struct AnchorPlaceTests {
    private let state = "/tmp/reeve-anchors-\(UUID().uuidString.prefix(8))"

    /// Neither answers nor ends, until it is let go.
    private final class HangingPlace: AnchorPlace {
        private let gate = DispatchSemaphore(value: 0)
        let place = "hanging"
        func keep(_ anchor: AuditAnchor) throws { gate.wait() }
        func has(_ anchor: AuditAnchor) throws -> Bool {
            gate.wait()
            return false
        }
        func texts(of name: String) throws -> [String] {
            gate.wait()
            return []
        }
        func thin(_ name: String) throws { gate.wait() }
        func letGo() { for _ in 0..<100 { gate.signal() } }
    }

    private struct FailingPlace: AnchorPlace {
        let place = "failing"
        private var failure: StorageError { .failed(operation: "write", object: "x", reason: "no room") }
        func keep(_ anchor: AuditAnchor) throws { throw failure }
        func has(_ anchor: AuditAnchor) throws -> Bool { throw failure }
        func texts(of name: String) throws -> [String] { throw failure }
        func thin(_ name: String) throws { throw failure }
    }

    @Test func `one place that hangs and one that fails keep no other from being written`() async throws {
        defer { try? FileManager.default.removeItem(atPath: state) }
        let database = try TestDatabase.current
        try await database.with { connection in
            try LedgerSchema.install(on: connection)
            try Audit.append(actor: "a", action: "b", subject: "c", on: connection)
        }
        let configuration = try FeatureList.reeve.configuration(
            path: nil, environment: ["REEVE_STATE": state, "DATABASE_URL": database.settings.uri])
        let open = OpenDatabase(name: "main", database: Database(database.settings), cluster: nil, systems: [])
        let hanging = HangingPlace()
        defer { hanging.letGo() }
        let file = AnchorFile(state: state)
        try initializeRepository("\(state)/repository")
        let folder = AnchorFolder(store: FolderStore("\(state)/repository"))
        let places: [any AnchorPlace] = [file, hanging, FailingPlace(), folder]
        let work = AuditWork(
            open: open, configuration: configuration, logger: .silent, places: places, limit: .milliseconds(500))
        let error = await #expect(throws: AuditError.self) { _ = try await work.anchor() }
        let said = error?.description ?? ""
        #expect(
            said.contains("failing") && said.contains("no room") && said.contains("hanging did not answer"), "\(said)")
        #expect(try file.texts(of: "main").count == 1 && folder.texts(of: "main").count == 1)
        let report = try await work.verify()
        #expect(report.isIntact && report.anchored?.entries == 1)
        #expect(report.notChecked.count == 2, "\(report.notChecked)")
    }

    @Test func `nothing is anchored below a mount point whose disk is away`() async throws {
        defer { try? FileManager.default.removeItem(atPath: state) }
        let database = try TestDatabase.current
        let disk = "\(state)/disk"
        try await database.with { connection in
            try LedgerSchema.install(on: connection)
            try BackupLedger.record(
                .init(id: "b", bytes: 1, startedAt: .now, finishedAt: .now, manifest: "m"),
                places: [.init(disk, repository: nil)], actor: "a",
                on: connection)
        }
        let configuration = try FeatureList.reeve.configuration(
            path: nil, environment: ["REEVE_STATE": state, "DATABASE_URL": database.settings.uri])
        let open = OpenDatabase(name: "main", database: Database(database.settings), cluster: nil, systems: [])
        let (file, folder) = (AnchorFile(state: state), AnchorFolder(store: FolderStore(disk)))
        let work = AuditWork(open: open, configuration: configuration, logger: .silent, places: [file, folder])
        let error = await #expect(throws: AuditError.self) { _ = try await work.anchor() }
        #expect(
            error?.description.contains("\(disk): the place is empty, but the ledger records 1 backup there") == true)
        #expect(try file.texts(of: "main").count == 1 && !FileManager.default.fileExists(atPath: disk))
        // It is back, with the backup.
        try FileManager.default.createDirectory(atPath: "\(disk)/main/b", withIntermediateDirectories: true)
        try Data("{}".utf8).write(to: URL(fileURLWithPath: "\(disk)/main/b/manifest.json"))
        try initializeRepository(disk)
        try await work.anchor()
        #expect(try folder.texts(of: "main").count == 1)
    }

    @Test func `anchors are thinned in the file and in a repository, the newest never`() throws {
        defer { try? FileManager.default.removeItem(atPath: state) }
        let key = try #require(SigningKey([UInt8](repeating: 7, count: 32)))
        let identity = AuditIdentity(ledger: UUID(), server: "1", database: "d")
        var file = AnchorFile(state: state)
        file.limit = 100
        try initializeRepository("\(state)/repository")
        let folder = AnchorFolder(store: FolderStore("\(state)/repository"))
        let now = Timestamp.now.microseconds
        let anchors = (0..<300).map { number in
            AuditAnchor(
                number == 3 ? .accepted : .anchor, of: identity, name: "main", entries: Int64(number),
                hash: [UInt8](repeating: 0, count: 32),
                at: Timestamp(microseconds: now - Int64(300 - number) * 8 * 3_600_000_000), key: key)
        }
        try file.file.append(Array(anchors.map { $0.text + "\n" }.joined().utf8))
        for anchor in anchors { try folder.keep(anchor) }
        for place in [file, folder] as [any AnchorPlace] {
            try place.thin("main")
            let left = try place.texts(of: "main").compactMap { AuditAnchor($0) }
            #expect(left.count < 90 && left.contains(anchors[299]) && left.contains(anchors[3]), "\(left.count)")
            let days = Set(left.map { $0.at.rfc3339.prefix(10) })
            #expect(Set(anchors.suffix(3 * 60).map { $0.at.rfc3339.prefix(10) }).isSubset(of: days))
        }
    }
}
