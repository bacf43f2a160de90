import Foundation
import Postgres
import Processes
import Storage

/// Reads parts of a backup: unpacks them, checks them against the manifest, and sends them on.
final class PartReader: @unchecked Sendable {
    // The count is under the lock.
    private let restorer: Restorer
    private let progress: Restorer.Progress
    private let total: Int
    private let lock = NSLock()
    private var done = 0

    init(_ restorer: Restorer, parts: [Manifest.Part], _ progress: @escaping Restorer.Progress) {
        self.restorer = restorer
        self.progress = progress
        total = parts.reduce(0) { $0 + $1.bytes }
    }

    /// The text of a part.
    func text(of part: Manifest.Part) async throws -> String {
        let gathered = Gathered<UInt8>()
        try await unpack(part) { gathered.add($0) }
        return String(decoding: gathered.all, as: UTF8.self)
    }

    /// Sends a part through the programs that unpack it, and through more; whatever these make of it, a part that is not
    /// what was written is an error.
    func unpack(
        _ part: Manifest.Part, through more: [Command] = [], lastMayStopEarly: Bool = false,
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let reader = try CheckedReader(part, in: restorer.repository.store) { [self] in tell($0) }
        let isEncrypted = !restorer.manifest.recipients.isEmpty
        let unpacking = BackupTools.unpacking(restorer.settings.identity, isEncrypted: isEncrypted)
        do {
            try await reader.run(unpacking + more, lastMayStopEarly: lastMayStopEarly, take: take)
        } catch let error as PipelineError {
            if error.program == "age" {
                throw BackupError.cannotOpen(object: part.object, reason: error.description)
            }
            throw BackupError.part(object: part.object, reason: error.description)
        }
    }

    private func tell(_ bytes: Int) {
        let now = lock.withLock {
            done += bytes
            return done
        }
        progress(now, total)
    }

    /// Restores a part by the program that it was made for.
    ///
    /// - Parameter options: more for pg_restore.
    func restore(
        _ part: Manifest.Part, into target: ConnectionSettings, _ tools: BackupTools, _ options: [String] = []
    ) async throws {
        let isScript = part.slice != nil || part.kind == .sequences
        let command =
            try isScript
            ? tools.command("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", "-"], on: target)
            : tools.command("pg_restore", ["--exit-on-error", "--no-tablespaces", "-Fc"] + options, on: target)
        // A choice of tables may lie at the beginning, and pg_restore reads no further.
        try await unpack(part, through: [command], lastMayStopEarly: !options.isEmpty) { _ in }
    }

    /// A part as a file, which pg_restore wants for a list, and for several connections at once.
    func withFile<T: Sendable>(_ part: Manifest.Part, _ body: (String) async throws -> T) async throws -> T {
        let path = "\(restorer.settings.temporaryFolder)/reeve-restore-\(UUID().uuidString)"
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw StorageError.failed(operation: "write", object: path, reason: String(cString: strerror(errno)))
        }
        defer {
            close(descriptor)
            unlink(path)
        }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
        try await unpack(part) { try file.write(contentsOf: Data($0)) }
        return try await body(path)
    }

    /// Which entries of an archive are restored.
    enum Entries {
        case allButEventTriggers, eventTriggers

        func contains(_ line: Substring) -> Bool {
            line.contains(" EVENT TRIGGER ") == (self == .eventTriggers)
        }
    }

    /// Indexes and constraints are made by several connections at once.
    func restoreFile(
        _ part: Manifest.Part, into target: ConnectionSettings, _ tools: BackupTools, _ entries: Entries
    ) async throws {
        let jobs = String(max(1, restorer.settings.jobs))
        try await withFile(part) { path in
            let contents = try await Pipeline([
                Command(tools.programs.path("pg_restore"), ["-l", path])
            ]).output()
            let lines = String(decoding: contents, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix(";") }
            let wanted = lines.filter(entries.contains)
            if wanted.isEmpty { return }
            let list = path + ".list"
            defer { unlink(list) }
            try Data(wanted.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: list))
            let command = try tools.command(
                "pg_restore", ["--exit-on-error", "--no-tablespaces", "-Fc", "-j", jobs, "-L", list, path], on: target)
            do {
                try await Pipeline([command]).run { _ in }
            } catch let error as PipelineError {
                throw BackupError.part(object: part.object, reason: error.description)
            }
        }
    }
}
