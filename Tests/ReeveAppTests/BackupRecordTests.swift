import Foundation
import Hashing
import Ledger
import Postgres
import Processes
import Telemetry
import TestSupport
import Testing

@testable import BackupsFeature
@testable import Kernel

/// The ledger tells of the backups that there are, whatever was cut in between.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct BackupRecordTests {
    /// A folder with repositories.
    private final class Place: Sendable {
        let folder = "/tmp/reeve-records-\(UUID().uuidString.prefix(8))"

        init() throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            chmod(folder, 0o755)
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func environment(_ repositories: String..., more: [String: String] = [:]) -> [String: String] {
            for repository in repositories { try? initializeRepository("\(folder)/\(repository)") }
            return [
                "REEVE_STATE": folder, "REEVE_BACKUP_ENCRYPTION": "none", "REEVE_BACKUP_CHECK_ROOM": "false",
                "REEVE_BACKUP_REPOSITORY": repositories.map { "\(folder)/\($0)" }.joined(separator: ","),
            ].merging(more) { $1 }
        }

        func manifest(_ id: String, in repository: String = "a") -> String {
            "\(folder)/\(repository)/main/\(id)/manifest.json"
        }
    }

    private func run(_ environment: [String: String], _ arguments: String...) async throws -> CommandOutcome {
        try await ReeveBinary.run(arguments, on: TestDatabase.current.settings, environment: environment)
    }

    private func make(_ environment: [String: String], _ options: String...) async throws -> String {
        let made = try await ReeveBinary.run(
            ["backup", "create"] + options, on: TestDatabase.current.settings, environment: environment)
        try #require(made.succeeded, "\(made.errorOutput)")
        return String(try #require(made.output.split(separator: ":").first))
    }

    /// Two backups that share no part, both proven.
    private func makeTwo(_ environment: [String: String]) async throws -> (first: String, second: String) {
        let (first, second) = (try await make(environment), try await make(environment, "--full"))
        for id in [first, second] {
            let tested = try await run(environment, "backup", "test", id)
            try #require(tested.succeeded, "\(tested.output)")
        }
        return (first, second)
    }

    /// What the ledger says of each backup: its name, and whether it is proven.
    private func records() async throws -> [String: Bool] {
        try await TestDatabase.current.with { connection in
            let rows = try connection.query("SELECT id, proven_at IS NOT NULL FROM reeve.backups")
            return Dictionary(try rows.map { (try $0.get(0), try $0.get(1)) }) { one, _ in one }
        }
    }

    /// How often the audit chain has an action.
    private func audited(_ action: String, _ subject: String) async throws -> Int {
        try await TestDatabase.current.value(
            """
            SELECT count(*) FROM reeve.audit
            WHERE entry::json ->> 'action' = $1 AND entry::json ->> 'subject' = $2
            """, [action, subject])
    }

    /// As after a kill between the manifest and the ledger.
    private func forget(_ id: String) async throws {
        try await TestDatabase.current.with { _ = try $0.query("DELETE FROM reeve.backups WHERE id = $1", [id]) }
    }

    @Test func `a backup that the ledger has not heard of is tested by its ID, and vouched for by nothing`()
        async throws
    {
        let place = try Place()
        let environment = place.environment("a")
        let made = try await make(environment)
        try await forget(made)
        // It is not taken for the newest, because anything could have written it.
        let newest = try await run(environment, "backup", "test")
        #expect(
            newest.ending == .exited(3) && newest.errorOutput.contains("the maker of backup \(made)"), "\(newest)")
        let tested = try await run(environment, "backup", "test", made)
        #expect(tested.succeeded, "\(tested.output) \(tested.errorOutput)")
        let records = try await records()
        #expect(records == [made: true])
        // A forged backup that agrees with its own manifest passes every test.
        let again = try await run(environment, "backup", "test")
        #expect(again.ending == .exited(3), "\(again.output) \(again.errorOutput)")
        let kept = try await run(environment, "backup", "prune", "--dry-run")
        #expect(kept.output.contains("the newest proven backup"), "\(kept.output)")
    }

    @Test(arguments: ["create", "prune"])
    func `a backup that the ledger has not heard of is found, and not proven by that`(_ verb: String) async throws {
        let place = try Place()
        let environment = place.environment("a")
        let first = try await make(environment)
        let second = try await make(environment)
        let tested = try await run(environment, "backup", "test", second)
        try #require(tested.succeeded, "\(tested.output)")
        try await forget(first)
        try await forget(second)
        let done =
            verb == "create"
            ? try await run(environment, "backup", "create")
            : try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(done.succeeded, "\(done.output) \(done.errorOutput)")
        let records = try await records()
        #expect(records[first] == false && records[second] == false && records.count == (verb == "create" ? 3 : 2))
        let found = try await audited("backup.found", first)
        #expect(found == 1)
    }

    @Test func `a backup that was only found is no success until it is proven`() async throws {
        let database = try TestDatabase.current
        let open = OpenDatabase(name: "main", database: Database(database.settings), cluster: nil, systems: [])
        let place = BackupLedger.Place("/nowhere/\(UUID().uuidString)", repository: nil)
        @Sendable func entry(_ id: String, at seconds: Int64) -> BackupLedger.Entry {
            let time = Timestamp(microseconds: seconds * 1_000_000)
            return BackupLedger.Entry(id: id, bytes: 7, startedAt: time, finishedAt: time, manifest: id)
        }
        func lastSuccess() async throws -> String? {
            var sample = MetricSample()
            try await BackupMetrics.collector.collect(open, &sample)
            let registry = MetricRegistry()
            registry.replace("backups", with: sample)
            let name = "reeve_backup_last_success_timestamp_seconds"
            return ExpositionFormat.text.render(registry.snapshot()).split(separator: "\n").first {
                $0.hasPrefix("\(name){")
            }.map {
                String($0.split(separator: " ").last ?? "")
            }
        }
        try await database.with { connection in
            try LedgerSchema.install(on: connection)
            try BackupLedger.record(entry("made", at: 1000), places: [place], actor: "a", on: connection)
            try BackupLedger.find(entry("found", at: 2000), place: place, actor: "a", on: connection)
        }
        #expect(try await lastSuccess() == "1000")
        try await database.with { connection in
            try BackupLedger.prove(
                entry("found", at: 2000), place: place,
                .init(testedAt: .now, restoreSeconds: 1, differences: 0, mismatchedTables: 0), actor: "a",
                on: connection)
        }
        #expect(try await lastSuccess() == "2000")
        // Found by another session before its maker recorded it.
        try await database.with { connection in
            try BackupLedger.find(entry("late", at: 3000), place: place, actor: "a", on: connection)
            try BackupLedger.record(entry("late", at: 3000), places: [place], actor: "a", on: connection)
            try BackupLedger.find(entry("late", at: 3000), place: place, actor: "a", on: connection)
        }
        #expect(try await lastSuccess() == "3000")
    }

    @Test func `a removal that fails half-way leaves no removed backup in the ledger`() async throws {
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        // In the place of a part there is what cannot be removed.
        let part = "\(place.folder)/a/main/\(first)/catalog.txt.zst"
        try FileManager.default.removeItem(atPath: part)
        try FileManager.default.createDirectory(atPath: "\(part)/more", withIntermediateDirectories: true)
        let cut = try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(cut.ending == .exited(1), "\(cut.output)")
        #expect(!FileManager.default.fileExists(atPath: place.manifest(first)))
        let records = try await records()
        #expect(records == [second: true])
        let removed = try await audited("backup.removed", first)
        #expect(removed == 1)
        let again = try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(again.succeeded, "\(again.errorOutput)")
    }

    @Test func `nothing is removed or given up without being asked`() async throws {
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        let pruned = try await run(environment, "backup", "prune")
        #expect(pruned.ending == .exited(6), "\(pruned)")
        #expect([first, second].allSatisfy { FileManager.default.fileExists(atPath: place.manifest($0)) })
        #expect(try await records() == [first: true, second: true])
        try FileManager.default.removeItem(atPath: place.manifest(first))
        _ = try await run(environment, "backup", "list")
        let forgotten = try await run(environment, "backup", "forget", first)
        #expect(forgotten.ending == .exited(6), "\(forgotten)")
        #expect(try await records() == [first: true, second: true])
    }

    /// The audit chain is locked, so that the removal stops after the manifest.
    @Test func `a removal that is killed after the manifest raises no alarm`() async throws {
        let database = try TestDatabase.current
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        let pruning = try await Connection.opened(database.settings) { connection in
            try await connection.with { connection in
                _ = try connection.execute("BEGIN")
                _ = try connection.query("SELECT FROM reeve.audit_head FOR UPDATE")
            }
            let pruning = try RunningReeve(
                ["backup", "prune", "--confirm", "main"],
                environment: ReeveBinary.environment(database.settings, environment))
            try await waitUntil("the manifest is removed", limit: .seconds(120)) {
                !FileManager.default.fileExists(atPath: place.manifest(first))
            }
            pruning.signal(SIGKILL)
            return pruning
        }
        _ = try? await pruning.end()
        let listed = try await run(environment, "backup", "list")
        #expect(listed.succeeded, "\(listed.errorOutput)")
        let again = try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(again.succeeded, "\(again.errorOutput)")
        #expect(try await records() == [second: true])
        #expect(try await audited("backup.missed", first) == 0)
    }

    @Test func `prune makes the ledger forget what the repository has not, and only that`() async throws {
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        try FileManager.default.removeItem(atPath: place.manifest(first))
        // What cannot be read is there all the same.
        try "{}".write(toFile: place.manifest(second), atomically: true, encoding: .utf8)
        _ = try await run(environment, "backup", "prune", "--dry-run")
        let before = try await records()
        #expect(before == [first: true, second: true])
        _ = try await run(environment, "backup", "prune", "--confirm", "main")
        // The record of what nothing has removed stays until somebody gives it up.
        let after = try await records()
        #expect(after == [first: true, second: true])
        let listed = try await run(environment, "backup", "list")
        #expect(listed.ending == .exited(3) && listed.errorOutput.contains("\(first), finished at"), "\(listed)")
        let kept = try await run(environment, "backup", "forget", second, "--confirm", "main")
        #expect(kept.ending == .exited(2), "\(kept)")
        let forgotten = try await run(environment, "backup", "forget", first, "--confirm", "main")
        #expect(forgotten.succeeded, "\(forgotten.errorOutput)")
        let left = try await records()
        #expect(left == [second: true])
        let missed = try await audited("backup.missed", first)
        #expect(missed == 1)
    }

    /// That machine has the repository and the keys, and neither the database nor its ledger.
    @Test func `a proof of another machine counts if it is signed`() async throws {
        let place = try Place()
        let key = "\(place.folder)/signing"
        let environment = place.environment("a", more: ["REEVE_BACKUP_SIGNING_KEY": key])
        let made = try await run(environment, "backup", "key", "new-signing", key)
        #expect(made.succeeded, "\(made.errorOutput)")
        let first = try await make(environment)
        let away = environment.merging([
            "REEVE_STATE": "\(place.folder)/other", "DATABASE_URL": "postgresql://u@127.0.0.1:1/app",
            "REEVE_CONNECT_TIMEOUT": "2s",
        ]) { $1 }
        let tested = try await ReeveBinary.run(["backup", "test"], environment: away)
        #expect(tested.succeeded && tested.output.contains("proved"), "\(tested.output)\(tested.errorOutput)")
        #expect(tested.errorOutput.contains("the result is in the repository"), "\(tested.errorOutput)")
        // A proof that somebody else has written beside the signature.
        let path = "\(place.folder)/a/main/\(first)/proof.json"
        let proof = try String(contentsOfFile: path, encoding: .utf8)
        try proof.replacing("\"tables\" : ", with: "\"tables\" : 1").write(
            toFile: path, atomically: true, encoding: .utf8)
        let second = try await make(environment)
        #expect(try await records() == [first: false, second: false])
        try proof.write(toFile: path, atomically: true, encoding: .utf8)
        let third = try await make(environment)
        #expect(try await records() == [first: true, second: false, third: false])
        // Without the key, or with another one, nothing of this is used.
        let stranger = "\(place.folder)/stranger"
        _ = try await run(environment, "backup", "key", "new-signing", stranger)
        let refused = try await run(
            place.environment("a", more: ["REEVE_BACKUP_SIGNING_KEY": stranger]), "backup", "test")
        #expect(refused.ending == .exited(3) && refused.errorOutput.contains("signature"), "\(refused)")
    }

    /// The content of an old backup under a new name and time.
    @Test func `what nobody has recorded is not signed, and a result that nobody vouches for is no proof`() async throws
    {
        let place = try Place()
        let key = "\(place.folder)/signing"
        let environment = place.environment("a")
        let genuine = try await make(environment)
        let doctor = try await run(environment, "doctor", "--only", "backups")
        #expect(doctor.output.contains("no backup has been proven"), "\(doctor.output)")
        let proof = """
            {"backup": "\(genuine)", "isProved": true, "tables": 1, "differences": [], "restoreSeconds": 1,
            "testSeconds": 1, "testedAt": "\(Timestamp.now.rfc3339)", "server": 150000, "checks": []}
            """
        try proof.write(toFile: "\(place.folder)/a/main/\(genuine)/proof.json", atomically: true, encoding: .utf8)
        let fooled = try await run(environment, "doctor", "--only", "backups")
        #expect(fooled.output.contains("no backup has been proven"), "\(fooled.output)")
        #expect(try await run(environment, "backup", "list").output.contains("never tested"))

        let manifest = try String(contentsOfFile: place.manifest(genuine), encoding: .utf8)
        let forged = "\(genuine.dropLast(8))ffffffff"
        let body = try #require(manifest.split(separator: "\n").first).replacing(
            "\"id\":\"\(genuine)\"", with: "\"id\":\"\(forged)\"")
        try FileManager.default.createDirectory(
            atPath: "\(place.folder)/a/main/\(forged)", withIntermediateDirectories: true)
        try "\(body)\n\(Digest.hex(Digest.of(Array(body.utf8))))\n".write(
            toFile: place.manifest(forged), atomically: true, encoding: .utf8)
        let signing = environment.merging(["REEVE_BACKUP_SIGNING_KEY": key]) { $1 }
        _ = try await run(environment, "backup", "key", "new-signing", key)
        let signed = try await run(signing, "backup", "key", "sign")
        #expect(signed.ending == .exited(3) && signed.errorOutput.contains("\(forged) is not signed"), "\(signed)")
        #expect(try String(contentsOfFile: place.manifest(forged), encoding: .utf8).split(separator: "\n").count == 2)
        #expect(try String(contentsOfFile: place.manifest(genuine), encoding: .utf8).split(separator: "\n").count == 3)
    }

    /// A removal that was interrupted is no loss, and a change of keys is no edited manifest.
    @Test func `what is removed or written again on purpose raises no alarm`() async throws {
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        // A removal that was killed after it had removed the manifest.
        try await TestDatabase.current.with {
            try BackupLedger.excuse(ids: [first], place: "\(place.folder)/a", on: $0)
        }
        try FileManager.default.removeItem(atPath: place.manifest(first))
        let listed = try await run(environment, "backup", "list")
        #expect(listed.succeeded, "\(listed.errorOutput)")
        let pruned = try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(pruned.succeeded, "\(pruned.errorOutput)")
        #expect(try await records() == [second: true])
        #expect(try await audited("backup.missed", first) == 0)
        // Another manifest under the same name is an alarm.
        let manifest = try String(contentsOfFile: place.manifest(second), encoding: .utf8)
        let key = "\(place.folder)/signing"
        _ = try await run(environment, "backup", "key", "new-signing", key)
        let signing = place.environment("a", more: ["REEVE_BACKUP_SIGNING_KEY": key])
        let unsigned = try await run(signing, "backup", "list")
        #expect(unsigned.ending == .exited(3) && unsigned.errorOutput.contains("is not signed"), "\(unsigned)")
        let signed = try await run(signing, "backup", "key", "sign")
        #expect(signed.succeeded, "\(signed.errorOutput)")
        let well = try await run(signing, "backup", "list")
        #expect(well.succeeded, "\(well.errorOutput)")
        try manifest.write(toFile: place.manifest(second), atomically: true, encoding: .utf8)
        let rolledBack = try await run(environment, "backup", "list")
        #expect(
            rolledBack.ending == .exited(3)
                && rolledBack.errorOutput.contains("is not the one that the ledger records"),
            "\(rolledBack)")
    }

    /// A backup that was tested and failed is not a proven one.
    @Test func `a failed test does not make a backup count as proven`() async throws {
        let place = try Place()
        let environment = place.environment("a", more: Self.keepingOne)
        let (first, second) = try await makeTwo(environment)
        // The catalog is not needed for the restore, and is a part of the backup all the same.
        let part = "\(place.folder)/a/main/\(second)/catalog.txt.zst"
        var bytes = try Data(contentsOf: URL(fileURLWithPath: part))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(fileURLWithPath: part))
        let tested = try await run(environment, "backup", "test", second)
        #expect(tested.ending == .exited(3), "\(tested.output)\(tested.errorOutput)")
        let plan = try await run(environment, "backup", "prune", "--dry-run", "--json")
        let object = try #require(
            JSONSerialization.jsonObject(with: Data(plan.output.utf8)) as? [String: Any], "\(plan.output)")
        let decisions = try #require(object["backups"] as? [[String: Any]])
        let reasons = Dictionary(decisions.map { ($0["id"] as? String ?? "", $0["reason"] as? String ?? "") }) { $1 }
        #expect(reasons[first] == "the newest proven backup", "\(reasons)")
        #expect(reasons[second] == "newer than the newest proven backup", "\(reasons)")
    }

    @Test func `a disk that is not mounted is noticed`() async throws {
        let place = try Place()
        let environment = place.environment("a")
        let made = try await make(environment)
        let (disk, below) = ("\(place.folder)/a", "\(place.folder)/away")
        try FileManager.default.moveItem(atPath: disk, toPath: below)
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
        for arguments in [["create"], ["prune", "--confirm", "main"]] {
            let done = try await ReeveBinary.run(
                ["backup"] + arguments, on: TestDatabase.current.settings, environment: environment)
            #expect(done.ending == .exited(1), "\(arguments) \(done.output)")
            #expect(
                done.errorOutput.contains("is not a repository"), "\(done.errorOutput)")
            let left = try FileManager.default.subpathsOfDirectory(atPath: disk).filter { $0.hasPrefix("main") }
            #expect(left.isEmpty, "\(left)")
        }
        let known = try await records()
        #expect(known == [made: false])
        // It is there again.
        try FileManager.default.removeItem(atPath: disk)
        try FileManager.default.moveItem(atPath: below, toPath: disk)
        _ = try await make(environment)
        // It is gone for good.
        try FileManager.default.removeItem(atPath: disk)
        try initializeRepository(disk)
        let refused = try await run(environment, "backup", "create")
        #expect(refused.ending == .exited(1) && refused.errorOutput.contains("the ledger knows the repository"))
        let anew = try await make(environment, "--adopt", "--confirm", "main")
        let pruned = try await run(environment, "backup", "prune", "--confirm", "main")
        #expect(pruned.succeeded, "\(pruned.errorOutput)")
        let after = try await records()
        #expect(after == [anew: false])
    }

    @Test func `what cannot be read does not look like no backup`() async throws {
        let place = try Place()
        let environment = place.environment("a")
        let made = try await make(environment)
        // What stands for an object of the proof's name that cannot be read.
        let proof = "\(place.folder)/a/main/\(made)/proof.json"
        try FileManager.default.createDirectory(atPath: proof, withIntermediateDirectories: true)
        let shown = try await run(environment, "backup", "list")
        #expect(shown.ending == .exited(1) && shown.output.contains(made), "\(shown.output)")
        #expect(shown.errorOutput.contains("proof.json"), "\(shown.errorOutput)")
        try "{}".write(toFile: place.manifest(made), atomically: true, encoding: .utf8)
        let listed = try await run(environment, "backup", "list")
        #expect(listed.output.contains("no backup could be read"), "\(listed.output)")
        try FileManager.default.removeItem(atPath: "\(place.folder)/a/main/\(made)")
        let none = try await run(environment, "backup", "list")
        #expect(none.ending == .exited(3) && none.errorOutput.contains("the ledger records one there"), "\(none)")
        _ = try await run(environment, "backup", "forget", "--all", "--confirm", "main")
        let given = try await run(environment, "backup", "list")
        #expect(given.succeeded && given.output.contains("no backups"), "\(given)")
    }

    /// As the kernel ends it for lack of memory.
    @Test func `a program that was killed says nothing of a backup`() async throws {
        let place = try Place()
        let environment = place.environment("a")
        _ = try await make(environment)
        let bin = "\(place.folder)/bin"
        try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: true)
        try "#!/bin/sh\ncase \"$*\" in *-V*|*--version*) exec /usr/bin/zstd \"$@\";; esac\nkill -9 $$\n"
            .write(toFile: "\(bin)/zstd", atomically: true, encoding: .utf8)
        chmod("\(bin)/zstd", 0o755)
        let path = "\(bin):\(ProcessInfo.processInfo.environment["PATH"] ?? "")"
        let verified = try await run(place.environment("a", more: ["PATH": path]), "backup", "verify")
        #expect(verified.ending == .exited(1), "\(verified.output)")
        #expect(verified.output.contains("0 problems") && verified.output.contains("could not be checked"))
        #expect(!verified.output.contains("identity"), "\(verified.output)")
        let again = try await run(environment, "backup", "verify")
        #expect(again.succeeded, "\(again.output)")
    }

    private static let keepingOne = [
        "REEVE_BACKUP_KEEP_DAILY": "0", "REEVE_BACKUP_KEEP_WEEKLY": "0", "REEVE_BACKUP_KEEP_MONTHLY": "0",
        "REEVE_BACKUP_KEEP_AT_LEAST": "1",
    ]
}
