import Backups

/// Backups and proofs as people and scripts read them.
enum BackupText {
    static func created(_ manifest: Manifest) -> JSONValue {
        [
            "id": .string(manifest.id), "database": .string(manifest.database), "tables": .int(manifest.tables.count),
            "bytes": .int(manifest.bytes), "new_bytes": .int(manifest.ownBytes),
            "started_at": .string(manifest.startedAt), "finished_at": .string(manifest.finishedAt),
        ]
    }

    static func listed(_ manifest: Manifest, _ proof: Proof?) -> JSONValue {
        [
            "id": .string(manifest.id), "database": .string(manifest.database), "bytes": .int(manifest.bytes),
            "finished_at": .string(manifest.finishedAt),
            "proven_at": .string(proof.flatMap { $0.isProved ? $0.testedAt : nil }),
        ]
    }

    static func shown(_ manifest: Manifest) -> JSONValue {
        [
            "backup": created(manifest), "server": .int(manifest.server), "snapshot": .string(manifest.snapshot),
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
            manifest.recipients.isEmpty ? "not encrypted" : "for \(manifest.recipients.joined(separator: ", "))"
        return """
            \(manifest.id) of \(manifest.source), \(manifest.startedAt) to \(manifest.finishedAt)
            server \(manifest.server), WAL \(manifest.wal ?? "unknown"), \(access)

            \(parts.text)

            \(tables.text)
            """
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
                }), "restore_seconds": .double(proof.restoreSeconds),
        ]
    }

    static func text(_ proof: Proof) -> String {
        let lines = proof.differences.map { "\($0.kind) \($0.object) is \($0.found), not \($0.expected)" }
        let result = proof.isProved ? "proved" : "not proved, \(lines.count) differences"
        return
            (lines + [
                "\(proof.backup): \(result); \(proof.tables) tables, restored in \(rounded(proof.restoreSeconds)) s"
            ]).joined(separator: "\n")
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
