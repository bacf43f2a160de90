import Backups
import Kernel
import Reporting

/// The text and JSON forms of backups and proofs.
enum BackupText {
    static func created(_ result: BackupMaker.Result) -> JSONValue {
        summary(
            result.manifest,
            [
                "repositories": .array(result.places.map { .string($0.address) }),
                "failed": .array(
                    result.failed.map { ["repository": .string($0.place), "message": .string("\($0.error)")] }),
            ])
    }

    /// Returns the text for an empty list.
    ///
    /// - Parameter isWhole: whether all manifests could be read.
    static func none(isWhole: Bool) -> String { isWhole ? "no backups" : "no backup could be read" }

    private static func summary(_ manifest: Manifest, _ more: [String: JSONValue] = [:]) -> JSONValue {
        let fields: [String: JSONValue] = [
            "id": .string(manifest.id), "database": .string(manifest.database), "tables": .int(manifest.tables.count),
            "bytes": .int(manifest.bytes), "new_bytes": .int(manifest.ownBytes),
            "started_at": .string(manifest.startedAt), "finished_at": .string(manifest.finishedAt),
        ]
        return .object(fields.merging(more) { one, _ in one })
    }

    static func listed(_ manifest: Manifest, _ proof: Proof?, _ place: String) -> JSONValue {
        [
            "id": .string(manifest.id), "database": .string(manifest.database), "bytes": .int(manifest.bytes),
            "finished_at": .string(manifest.finishedAt), "repository": .string(place),
            "proven_at": .string(proof.flatMap { $0.isProved ? $0.testedAt : nil }),
        ]
    }

    static func shown(_ manifest: Manifest) -> JSONValue {
        [
            "backup": summary(manifest), "server": .int(manifest.server), "snapshot": .string(manifest.snapshot),
            "wal": .string(manifest.wal), "recipients": .array(manifest.recipients.map { .string($0) }),
            "tables": .array(
                manifest.tables.map {
                    [
                        "schema": .string($0.schema), "name": .string($0.name), "rows": .int($0.rows),
                        "digest": .string($0.digest),
                    ]
                }),
            "parts": .array(
                manifest.parts.map {
                    [
                        "kind": .string($0.kind.rawValue), "object": .string($0.object), "bytes": .int($0.bytes),
                        "sha256": .string($0.sha256),
                    ]
                }),
        ]
    }

    static func text(_ manifest: Manifest) -> String {
        var parts = TextTable("PART", "SIZE", "TABLES")
        for part in manifest.parts {
            parts.add(part.object, size(part.bytes), part.tables.isEmpty ? "" : "\(part.tables.count)")
        }
        var tables = TextTable("TABLE", "ROWS", "CONTENT")
        for table in manifest.tables { tables.add("\(table.schema).\(table.name)", "\(table.rows)", table.digest) }
        let access =
            manifest.recipients.isEmpty
            ? "not encrypted" : "encrypted for \(manifest.recipients.joined(separator: ", "))"
        return """
            \(manifest.id) of \(manifest.shownSource), \(manifest.startedAt) to \(manifest.finishedAt)
            server \(manifest.server), WAL \(manifest.wal ?? "unknown"), \(access)

            \(parts.text)

            \(tables.text)
            """
    }

    static func verified(_ result: Verification) -> JSONValue {
        [
            "parts": .int(result.parts), "read": .int(result.read), "unopened": .int(result.unopened),
            "bytes": .int(result.bytes), "problems": .array(result.problems.map { .string($0.description) }),
            "untried": .array(result.untried.map { .string($0.description) }),
            "orphans": .array(result.orphans.map { .string($0) }),
        ]
    }

    static func text(_ result: Verification) -> String {
        let lines =
            (result.problems + result.untried).map(\.description) + result.orphans.map { "\($0) belongs to no backup" }
        return (lines + [summary(result)]).joined(separator: "\n")
    }

    /// Returns the counts, in one line.
    static func summary(_ result: Verification) -> String {
        var text = "\(counted(result.parts, "part")), \(result.read) of them read (\(size(result.bytes)))"
        if result.unopened > 0 { text += ", \(result.unopened) of these not unpacked for lack of an identity" }
        text += ", \(counted(result.problems.count, "problem"))"
        if !result.untried.isEmpty { text += ", \(counted(result.untried.count, "part")) could not be checked" }
        if !result.orphans.isEmpty { text += ", \(counted(result.orphans.count, "object")) that belong to no backup" }
        return text
    }

    static func proved(_ proof: Proof) -> JSONValue {
        [
            "backup": .string(proof.backup), "proved": .bool(proof.isProved), "tables": .int(proof.tables),
            "differences": .array(
                proof.differences.map {
                    [
                        "kind": .string($0.kind), "object": .string($0.object), "expected": .string($0.expected),
                        "found": .string($0.found),
                    ]
                }), "restore_seconds": .double(proof.restoreSeconds), "seconds": .double(proof.testSeconds),
            "not_compared": .array((proof.notCompared ?? []).map { .string($0) }),
        ]
    }

    /// The entries that a restore has left out.
    static func missing(_ entries: [MissingEntry]) -> JSONValue {
        .array(
            entries.map {
                ["kind": .string($0.kind), "object": .string($0.object), "reason": .string($0.reason)]
            })
    }

    static func text(_ proof: Proof) -> String {
        let lines = proof.differences.map { "\($0.kind) \($0.object): found \($0.found), expected \($0.expected)" }
        let untried =
            (proof.notCompared ?? []).isEmpty
            ? [] : ["not compared: \((proof.notCompared ?? []).joined(separator: "; "))"]
        return (lines + untried + [summary(proof)]).joined(separator: "\n")
    }

    /// Returns the result in one line.
    static func summary(_ proof: Proof) -> String {
        let result = proof.isProved ? "proved" : "not proved, \(counted(proof.differences.count, "difference"))"
        return "\(proof.backup): \(result); \(counted(proof.tables, "table")), restored in "
            + "\(rounded(proof.restoreSeconds)) s"
    }

    private static func rounded(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10)" }

    static func size(_ bytes: Int) -> String {
        var value = Double(bytes)
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if value < 1024 { return "\(unit == "B" ? "\(bytes)" : rounded(value)) \(unit)" }
            value /= 1024
        }
        return "\(rounded(value)) TiB"
    }
}
