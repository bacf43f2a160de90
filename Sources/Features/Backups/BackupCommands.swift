import Backups
import Foundation
import Kernel
import Reporting
import Storage

/// The commands `reeve backup …`.
enum BackupCommands {
    static let all =
        [
            RepositoryCommands.initialize, create, RepositoryCommands.list, show, FindCommand.spec, verify,
            prune, RepositoryCommands.forget,
        ]
        + RestoreCommands.all + BackupKeyCommands.all

    static let create = CommandSpec(
        noun: "backup", verb: "create", summary: "back up the database into the repositories",
        discussion:
            "Dumps everything at one snapshot, in parts that are compressed and encrypted while they are written. The "
            + "tables are locked against DDL and TRUNCATE before the snapshot is taken. Fingerprints of the content "
            + "are computed at the same snapshot. Parts that have not changed since the previous backup are reused, "
            + "unless --full is given. The recovery point is the last backup: no moment between two backups can be "
            + "restored. A repository accepts backups under a name from only one database, which is recognized by its "
            + "ledger. With --adopt, a database with a new ledger takes over the existing backups of this name; "
            + "'prune' then treats them like the database's own backups. If a repository is empty, although the ledger "
            + "records backups in it, or if another repository than the recorded one is at its place, its disk may not "
            + "be mounted: such a repository is refused, unless --adopt is given. Each repository is made once, with "
            + "'reeve backup init'.",
        options: [
            .flag("full", "dump also the parts that have not changed"),
            .flag("timings", "show how long each step took, and the time for each table"),
            .flag(
                "adopt",
                "take over the backups of another database under this name, or start an emptied repository again"
            ),
            .option("confirm", "NAME", "with --adopt: the name that the database has in the configuration"), .lockWait,
        ],
        whenInterrupted: "no backup was made; the next backup removes the partly written objects"
    ) { invocation in
        let lockWait = try invocation.duration("lock-wait")
        return try await BackupScope.forEach(invocation) { work in
            let name = work.open.name
            var settings = BackupSettings.maker(work.configuration)
            settings.isFull = invocation.has("full")
            settings.adopts = invocation.has("adopt")
            guard !settings.adopts || invocation.option("confirm") == name else {
                throw ConfirmationNeeded(what: "the existing backups of '\(name)' would be taken over", name: name)
            }
            if let lockWait { settings.lockWait = lockWait }
            let timings = StepTimings()
            if invocation.has("timings") { settings.timed = { timings.add($0, $1) } }
            let result = try await invocation.interruption.telling(work, settings) { settings in
                try await work.create(settings, actor: Invocation.person) { part, bytes in
                    invocation.console.progress("\(part)  \(bytes) bytes")
                }
            }
            for (place, error) in result.failed {
                invocation.console.note("error: the backup is not in \(place): \(error)")
            }
            let manifest = result.manifest
            if invocation.has("timings") { invocation.console.note(timings.text(tables: manifest.tables.count)) }
            var value: [String: JSONValue] = ["backup": BackupText.created(result)]
            if invocation.has("timings") { value["timings"] = timings.json }
            return DatabaseScope.Report(
                .object(value),
                "\(manifest.id): \(counted(manifest.tables.count, "table")), \(BackupText.size(manifest.bytes))"
                    + (manifest.ownBytes < manifest.bytes ? ", \(BackupText.size(manifest.ownBytes)) of it new" : ""),
                result.failed.isEmpty ? .done : .failed)
        }
    }

    static let show = CommandSpec(
        noun: "backup", verb: "show", summary: "show the contents of a backup", arguments: [BackupScope.backup],
        options: [BackupScope.repository]
    ) { invocation in
        try await BackupScope.forEach(invocation) { work in
            let id = invocation.arguments.positional.first ?? "latest"
            let found = try await BackupScope.search(invocation, work, allowing: [.older, .unverified]).find(id)
            let manifest = found.manifest
            let report = try await Proof.read(manifest, in: found.repository)?.report(of: manifest)
            return DatabaseScope.Report(
                BackupText.shown(manifest), BackupText.text(manifest) + (report.map { "\n\n" + $0 } ?? ""))
        }
    }

    static let verify = CommandSpec(
        noun: "backup", verb: "verify", summary: "check that all parts of a backup exist and are unchanged",
        discussion:
            "Compares the manifests with the ledger's record of them, and the sizes of all parts. Then reads all "
            + "parts, or a sample of them, compares their sizes and hashes, and unpacks them; encrypted parts are "
            + "unpacked only if an identity is given. Lists objects that belong to no backup. Exits with 3 if it finds "
            + "a problem, otherwise with 1 if a part could not be checked, for example because a program was killed. "
            + "Only 'backup test' shows that a backup can be restored.",
        arguments: [BackupScope.backup],
        options: [
            .flag("all", "verify every backup of the database"),
            .option("sample", "P%", "read only this share of the parts, chosen at random"), BackupScope.identity,
            BackupScope.repository,
        ]
    ) { invocation in
        let share = try share(invocation)
        return try await BackupScope.forEach(invocation) { work in
            var verifier = BackupVerifier(try BackupScope.repositories(invocation, work), of: work.open.name)
            let id = invocation.arguments.positional.first ?? "latest"
            verifier.selection = invocation.has("all") ? .all : .one(id)
            verifier.share = share
            verifier.identity = BackupSettings.identity(work.configuration, given: try BackupScope.identity(invocation))
            let console = invocation.console
            verifier.evidence = await work.evidence { console.note($0) }
            let result = try await verifier.verify()
            return DatabaseScope.Report(
                BackupText.verified(result), BackupText.text(result),
                !result.problems.isEmpty || !result.orphans.isEmpty
                    ? .finding : result.untried.isEmpty ? .done : .failed)
        }
    }

    private static func share(_ invocation: Invocation) throws -> Double {
        guard let text = invocation.option("sample") else { return 1 }
        guard let percent = Double(text.hasSuffix("%") ? text.dropLast() : text[...]), percent > 0, percent <= 100
        else {
            throw UsageError("--sample: '\(text)' is not a percentage", hint: "write for example 10%")
        }
        return percent / 100
    }

    static let prune = CommandSpec(
        noun: "backup", verb: "prune", summary: "remove the backups that the policy does not keep",
        discussion:
            "Keeps the newest proven backup of each of the last days, weeks and months (backup.keep.*), the newest few "
            + "backups, and every backup that is newer than the newest proven one. The newest proven backup is never "
            + "removed. --dry-run shows for each backup why it is kept or removed.",
        options: [.dryRun, .option("confirm", "NAME", "the database's name, to skip the question")],
        whenInterrupted:
            "backups may have been removed; 'reeve backup list' shows the rest; the next 'prune' continues"
    ) { invocation in
        try await BackupScope.forEach(invocation) { work in
            var status = ExitCode.done
            if !invocation.isDryRun { try await work.reconcile(actor: Invocation.person) }
            var decisions: [RetentionPolicy.Decision] = []
            for repository in work.repositories {
                do {
                    decisions += try await work.decisions(repository) {
                        status = .failed
                        invocation.console.note("error: \($0)")
                    }
                } catch let error as StorageError {
                    // The repository may contain backups to remove, so the command has failed.
                    status = .failed
                    invocation.console.note("error: \(error)")
                }
            }
            let leaving = decisions.filter { !$0.stays }
            var pruned = (removed: 0, freed: 0)
            if !invocation.isDryRun {
                if leaving.isEmpty {
                    pruned.freed = try await work.removeOrphans()
                } else {
                    try invocation.confirm(
                        "\(counted(leaving.count, "backup")) of '\(work.open.name)' would be removed",
                        name: work.open.name)
                    pruned = try await work.prune(actor: Invocation.person)
                }
            }
            var table = TextTable("ID", "KEPT", "REASON")
            for one in decisions { table.add(one.id, one.stays ? "yes" : "no", one.reason) }
            let list = decisions.map { one -> JSONValue in
                ["id": .string(one.id), "stays": .bool(one.stays), "reason": .string(one.reason)]
            }
            let sum =
                invocation.isDryRun
                ? "\(counted(leaving.count, "backup")) would be removed"
                : "removed \(counted(pruned.removed, "backup")), \(BackupText.size(pruned.freed)) freed"
            return DatabaseScope.Report(
                [
                    "backups": .array(list), "removed": .int(pruned.removed),
                    "freed_bytes": .int(pruned.freed),
                ],
                decisions.isEmpty ? BackupText.none(isWhole: status == .done) : table.text + "\n" + sum, status
            )
        }
    }
}
