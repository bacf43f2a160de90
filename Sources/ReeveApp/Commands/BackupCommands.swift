import Backups
import Foundation
import Ledger
import Migrations
import Postgres
import Processes
import Storage

/// `reeve backup …`
enum BackupCommands {
    static let all = [create, list, show, verify, test, restore, prune, newKey]

    private static let identity = OptionSpec.option("identity", "FILE", "the age identity that opens the backup")
    private static let backup = ArgumentSpec(name: "ID", help: "a backup, or latest", isRequired: false)

    static let create = CommandSpec(
        noun: "backup", verb: "create", summary: "back the database up into the repository",
        discussion:
            "Everything is dumped at one snapshot, with the tables locked against DDL and TRUNCATE before it is "
            + "taken, in parts that are compressed and encrypted on the way; the content's fingerprints are taken at the "
            + "same snapshot. What has not changed since the backup before is referred to, unless --full. The recovery "
            + "point is the last backup: there is no recovery to a moment between two.",
        options: [.flag("full", "dump also what has not changed"), .lockWait]
    ) { invocation in
        let estate = try invocation.estate()
        var reports: [JSONValue] = []
        var lines: [String] = []
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            var settings = try BackupSettings.maker(estate.configuration)
            settings.isFull = invocation.has("full")
            if let wait = try invocation.duration("lock-wait") { settings.lockWait = wait }
            let work = BackupWork(open: open, configuration: estate.configuration, logger: estate.logger)
            let manifest = try await work.create(settings, actor: BackupWork.person) { part, bytes in
                invocation.console.progress("\(part)  \(bytes) bytes")
            }
            reports.append(BackupText.created(manifest))
            lines.append(
                "\(manifest.id): \(manifest.tables.count) tables, \(BackupText.size(manifest.bytes))"
                    + (manifest.ownBytes < manifest.bytes ? ", \(BackupText.size(manifest.ownBytes)) of it new" : ""))
        }
        let json: JSONValue = reports.count == 1 ? ["backup": reports[0]] : ["backups": .array(reports)]
        invocation.console.result(json, text: lines.joined(separator: "\n"))
        return .done
    }

    static let list = CommandSpec(
        noun: "backup", verb: "list", summary: "show the backups, and when each was proved to restore",
        discussion: "The newest one is how far a restore can bring you back: there is nothing between two backups."
    ) { invocation in
        try await forEach(invocation) { work in
            var values: [JSONValue] = []
            var table = TextTable("ID", "DATABASE", "SIZE", "FINISHED", "PROVED")
            let manifests = try work.repository.manifests(of: work.open.name) {
                invocation.console.note("warning: \($0)")
            }
            for manifest in manifests {
                let proof = try Proof.read(manifest, in: work.repository)
                let proved = proof.map { $0.isProved ? $0.testedAt : "no: \($0.differences.count) differences" }
                table.add(
                    manifest.id, manifest.database, BackupText.size(manifest.bytes), manifest.finishedAt,
                    proved ?? "never tested")
                values.append(BackupText.listed(manifest, proof))
            }
            return (["backups": .array(values)], manifests.isEmpty ? "no backups" : table.text)
        }
    }

    static let show = CommandSpec(
        noun: "backup", verb: "show", summary: "show what a backup holds", arguments: [backup]
    ) { invocation in
        try await forEach(invocation) { work in
            let manifest = try work.repository.manifest(
                invocation.arguments.positional.first ?? "latest", of: work.open.name)
            return (BackupText.shown(manifest), BackupText.text(manifest))
        }
    }

    static let verify = CommandSpec(
        noun: "backup", verb: "verify", summary: "read every part of a backup and compare size and hash",
        discussion: "Tells of parts that are missing or changed, and of objects that belong to no backup. Exit 3 when "
            + "there is something. That a backup restores, only 'backup test' shows.",
        arguments: [backup], options: [.flag("all", "every backup of the database")]
    ) { invocation in
        let found = Found()
        try await forEach(invocation) { work in
            let name = work.open.name
            let id = invocation.arguments.positional.first ?? "latest"
            let manifests =
                invocation.has("all")
                ? try work.repository.manifests(of: name) : [try work.repository.manifest(id, of: name)]
            let result = try work.repository.verify(manifests, of: name)
            found.count += result.problems.count + result.orphans.count
            let lines = result.problems.map(\.description) + result.orphans.map { "\($0) belongs to no backup" }
            return (
                [
                    "parts": .int(result.parts), "bytes": .int(result.bytes),
                    "problems": .array(result.problems.map { .string($0.description) }),
                    "orphans": .array(result.orphans.map { .string($0) }),
                ],
                (lines + ["\(result.parts) parts, \(BackupText.size(result.bytes)), \(lines.count) problems"])
                    .joined(separator: "\n")
            )
        }
        return found.count > 0 ? .finding : .done
    }

    /// Counts over several databases.
    private final class Found { var count = 0 }

    static let test = CommandSpec(
        noun: "backup", verb: "test",
        summary: "restore a backup into a cluster of its own and compare it with its source",
        discussion:
            "Compared are rows, content, sequences, large objects, roles and the whole schema, with what was taken "
            + "at the backup's own snapshot; then the checks of each system (backups/checks/SYSTEM/*.sql), each of which "
            + "gives no row when it holds. Exit 3 when anything differs.",
        arguments: [backup], options: [identity]
    ) { invocation in
        let found = Found()
        try await forEach(invocation) { work in
            let manifest = try work.repository.manifest(
                invocation.arguments.positional.first ?? "latest", of: work.open.name)
            let proof = try await work.test(manifest, identity: invocation.option("identity"), actor: BackupWork.person)
            {
                invocation.console.progress("restored \($0)")
            }
            found.count += proof.differences.count
            return (BackupText.proved(proof), BackupText.text(proof))
        }
        return found.count > 0 ? .finding : .done
    }

    static let restore = CommandSpec(
        noun: "backup", verb: "restore", summary: "restore a backup into a database",
        discussion: "The target must be empty, or be named by --confirm. Roles that are missing are made with --roles. "
            + "Sessions of others are kept out until everything is there.",
        arguments: [ArgumentSpec(name: "ID", help: "a backup, or latest")],
        options: [
            .option("to", "URL", "the database to restore into; it must exist"), identity,
            .flag("roles", "make the roles that are missing"),
            .option("confirm", "NAME", "the target's name, when it is not empty"),
        ]
    ) { invocation in
        guard let url = invocation.option("to") else { throw UsageError("'reeve backup restore' wants --to URL") }
        let target = try ConnectionSettings(connectionString: url)
        guard target.parameters["password"] == nil else {
            throw UsageError(
                "a password on the command line can be read by everyone on the machine",
                hint: "put it into ~/.pgpass or PGPASSWORD")
        }
        guard try invocation.estate().selected(invocation.option("database")).count == 1 else {
            throw UsageError(
                "several databases are configured", hint: "name the one whose backup it is with --database")
        }
        return try await forEach(invocation) { work in
            let manifest = try work.repository.manifest(invocation.arguments.positional[0], of: work.open.name)
            try await checkTarget(target, invocation)
            let began = ContinuousClock.now
            try await work.restore(
                manifest, into: target, identity: invocation.option("identity"), makesRoles: invocation.has("roles")
            ) { invocation.console.progress("restored \($0)") }
            let seconds = (ContinuousClock.now - began).inSeconds
            return (
                ["backup": .string(manifest.id), "restore_seconds": .double(seconds)],
                "restored \(manifest.id) in \(String(format: "%.1f", seconds)) s"
            )
        }
    }

    static let prune = CommandSpec(
        noun: "backup", verb: "prune", summary: "remove the backups that the policy does not keep",
        discussion: "Kept are the newest proven backup of each of the last days, weeks and months (backup.keep.*), the "
            + "newest few, and whatever is newer than the newest proven one, which never goes. --dry-run tells why each "
            + "stays or goes.",
        options: [.dryRun, .option("confirm", "NAME", "the database's name, to go on without being asked")]
    ) { invocation in
        try await forEach(invocation) { work in
            let decisions = try work.decisions()
            let leaving = decisions.filter { !$0.stays }
            var freed = 0
            if !invocation.isDryRun, !leaving.isEmpty {
                try invocation.confirm(
                    "\(leaving.count) backups of '\(work.open.name)' are removed", name: work.open.name)
                freed = try await work.prune(actor: BackupWork.person).freed
            }
            var table = TextTable("ID", "STAYS", "WHY")
            for one in decisions { table.add(one.id, one.stays ? "yes" : "no", one.reason) }
            let list = decisions.map { one -> JSONValue in
                ["id": .string(one.id), "stays": .bool(one.stays), "reason": .string(one.reason)]
            }
            let sum =
                invocation.isDryRun
                ? "\(leaving.count) would go" : "removed \(leaving.count), \(BackupText.size(freed)) freed"
            return (
                [
                    "backups": .array(list), "removed": .int(invocation.isDryRun ? 0 : leaving.count),
                    "freed_bytes": .int(freed),
                ],
                decisions.isEmpty ? "no backups" : table.text + "\n" + sum
            )
        }
    }

    private static func checkTarget(_ target: ConnectionSettings, _ invocation: Invocation) async throws {
        let (name, count) = try await Connection.opened(target) { connection in
            try await connection.with { connection in
                let name: String = try connection.query("SELECT current_database()::text").first?.get(0) ?? ""
                let count: Int =
                    try connection.query(
                        """
                        SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                        """
                    ).first?.get(0) ?? 0
                return (name, count)
            }
        }
        if count > 0, invocation.option("confirm") != name {
            throw ConfirmationNeeded(
                what: "the database '\(name)' is not empty: \(count) relations are in it", name: name)
        }
    }

    static let newKey = CommandSpec(
        noun: "backup", verb: "key",
        summary: "make a pair of keys: a recipient to encrypt to, an identity to open with",
        discussion:
            "The identity is written to FILE, which must not exist. Keep it away from the machine that backs up, "
            + "in two places: who loses it loses the backups, and who has it can read them. The recipient goes into "
            + "backup.recipients.",
        arguments: [
            ArgumentSpec(name: "new", help: "the word new"),
            ArgumentSpec(name: "FILE", help: "where the identity goes"),
        ]
    ) { invocation in
        let words = invocation.arguments.positional
        guard words[0] == "new" else {
            throw UsageError("unknown command 'backup key \(words[0])'", hint: "write 'reeve backup key new FILE'")
        }
        let outcome = try await Command("age-keygen", ["-o", words[1]]).run(limit: .seconds(10))
        guard outcome.succeeded else {
            throw UsageError(outcome.errorOutput.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        let text = (try? String(contentsOfFile: words[1], encoding: .utf8)) ?? ""
        let recipient = text.split(separator: "\n").first { $0.contains("public key: ") }?.split(separator: " ").last
        invocation.console.result(
            ["recipient": .string(recipient.map(String.init)), "identity": .string(words[1])],
            text: recipient.map(String.init) ?? "")
        invocation.console.note(
            "the identity is in \(words[1]); keep two copies away from this machine, for without it no backup opens")
        return .done
    }

    /// Runs `body` for each database that is worked on, and prints one object, or one text for each.
    @discardableResult
    private static func forEach(
        _ invocation: Invocation, _ body: (BackupWork) async throws -> (JSONValue, String)
    ) async throws -> ExitCode {
        let estate = try invocation.estate()
        var texts: [String] = []
        var values: [JSONValue] = []
        for one in try estate.selected(invocation.option("database")) {
            let open = try await estate.open(one)
            let work = BackupWork(open: open, configuration: estate.configuration, logger: estate.logger)
            let (json, text) = try await body(work)
            values.append(json)
            texts.append(text)
        }
        invocation.console.result(
            values.count == 1 ? values[0] : ["databases": .array(values)], text: texts.joined(separator: "\n"))
        return .done
    }
}
