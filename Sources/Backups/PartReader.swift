import Foundation
import Postgres
import Processes
import Storage

/// Reads parts of a backup: unpacks them, checks them against the manifest, and passes them on.
final class PartReader: @unchecked Sendable {
    // `done` is under the lock.
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

    /// Returns the text of a part.
    ///
    /// - Throws: `BackupError.part` if the text is larger than `Restorer.Settings.textLimit`.
    func text(of part: Manifest.Part) async throws -> String {
        let text = try await gather(part.object) { try await unpack(part, take: $0) }
        return String(decoding: text, as: UTF8.self)
    }

    private func gather(
        _ object: String, _ body: (@escaping @Sendable (UnsafeRawBufferPointer) throws -> Void) async throws -> Void
    ) async throws -> [UInt8] {
        let gathered = Gathered<UInt8>()
        let limit = restorer.settings.textLimit
        try await body { bytes in
            guard gathered.count + bytes.count <= limit else {
                throw BackupError.part(
                    object: object, reason: "it has more than \(limit >> 20) MiB of text when unpacked")
            }
            gathered.add(bytes)
        }
        return gathered.all
    }

    /// Sends a part through the programs that unpack it, and then through `more`. If the part differs from what the
    /// manifest records, throws `BackupError.part`, even if the programs accept the part.
    func unpack(
        _ part: Manifest.Part, through more: [Command] = [], lastMayStopEarly: Bool = false,
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let isEncrypted = !restorer.manifest.recipients.isEmpty
        let programs = BackupTools.unpacking(restorer.settings.identity, isEncrypted: isEncrypted) + more
        do {
            try await restorer.repository.reading(part, of: restorer.manifest, progress: tell) {
                try await $0.run(programs, lastMayStopEarly: lastMayStopEarly, take: take)
            }
        } catch let error as PipelineError {
            throw BackupError(for: error, part)
        }
    }

    private func tell(_ bytes: Int) {
        let now = lock.withLock {
            done += bytes
            return done
        }
        progress(now, total)
    }

    /// Restores a part with psql or pg_restore, depending on its format.
    ///
    /// - Parameter options: additional options of pg_restore.
    func restore(
        _ part: Manifest.Part, into target: ConnectionSettings, _ tools: BackupTools, _ options: [String] = []
    ) async throws {
        let isScript = part.slice != nil || part.kind == .sequences
        let command =
            try isScript
            ? tools.command(
                "psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"] + (await tools.restrictedScript()),
                on: target)
            : tools.command("pg_restore", RestorePlan.options + options, on: target)
        // If there are options, they select tables. The rows of these tables may all be near the start of the archive.
        // pg_restore then stops reading early.
        try await unpack(part, through: [command], lastMayStopEarly: !options.isEmpty) { _ in }
    }

    /// Unpacks a part into a temporary file, calls `body` with the path of the file, and removes the file. pg_restore
    /// requires a file to list an archive, and to use several connections.
    func withFile<T: Sendable>(_ part: Manifest.Part, _ body: (String) async throws -> T) async throws -> T {
        try await withFile({ try await unpack(part, take: $0) }, body)
    }

    /// Writes the output of a pipeline to a temporary file, calls `body` with the path of the file, and removes the
    /// file.
    func withFile<T: Sendable>(of pipeline: Pipeline, _ body: (String) async throws -> T) async throws -> T {
        try await withFile({ try await pipeline.run(take: $0) }, body)
    }

    private func withFile<T: Sendable>(
        _ fill: (@escaping @Sendable (UnsafeRawBufferPointer) throws -> Void) async throws -> Void,
        _ body: (String) async throws -> T
    ) async throws -> T {
        // No other user can read the folder, or place anything at the paths of the files in it. The folder's name
        // contains the ID of this process, so that `ScratchServer` can remove the folder if the process was killed.
        let parent = restorer.settings.temporaryFolder
        try? StateFolder.make(parent)
        var template = Array("\(parent)/parts-\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw StorageError.failed(
                operation: "write", object: restorer.settings.temporaryFolder, reason: String(cString: strerror(errno)))
        }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let path = folder + "/part"
        defer { rmdir(folder) }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw StorageError.failed(operation: "write", object: path, reason: String(cString: strerror(errno)))
        }
        defer {
            close(descriptor)
            unlink(path)
        }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: false)
        try await fill { try file.write(contentsOf: Data($0)) }
        return try await body(path)
    }

    // MARK: Files

    /// Returns the tables of contents of the archives that contain the backup's definitions.
    func definitions(_ tools: BackupTools) async throws -> [TableOfContents] {
        var archives: [TableOfContents] = []
        for part in restorer.manifest.parts where [.before, .after].contains(part.kind) {
            archives.append(try await withFile(part) { try await contents(of: $0, tools) })
        }
        return archives
    }

    /// Returns the table of contents of an archive.
    func contents(of path: String, _ tools: BackupTools) async throws -> TableOfContents {
        let list = Pipeline([Command(tools.programs.path("pg_restore"), ["-l", "-v", path])])
        return try TableOfContents(try await gather("the list of an archive") { try await list.run(take: $0) })
    }

    /// Returns the statements that make some entries of an archive, in the encoding of the archive.
    ///
    /// - Throws: `PipelineError`; `BackupError.badOutput` if the script has no end.
    func script(of entries: TableOfContents, at path: String, _ tools: BackupTools) async throws -> [UInt8] {
        try await withList(entries, path) { list in
            let script = try await Pipeline([
                Command(tools.programs.path("pg_restore"), ["-v", "-L", list, "-f", "-", path])
            ]).output()
            let check = FormatCheck(.script)
            script.withUnsafeBytes { check.take($0) }
            if let problem = check.problem() { throw BackupError.badOutput(program: "pg_restore", reason: problem) }
            return script
        }
    }

    /// Returns the late constraints of tables, read from the backup's part of kind `after`.
    func lateConstraints(of tables: Set<FetchedTable>, _ tools: BackupTools) async throws -> LateConstraints {
        guard let part = restorer.manifest.parts.first(where: { $0.kind == .after }) else { return LateConstraints() }
        return try await withFile(part) { path in
            let late = RestorePlan.Entries.only(RestorePlan.lateConstraints).of(try await contents(of: path, tools))
            if late.entries.isEmpty { return LateConstraints() }
            let script = try await script(of: late, at: path, tools)
            return try LateConstraints.read(script, of: tables, file: part.object)
        }
    }

    private func withList<T: Sendable>(
        _ entries: TableOfContents, _ path: String, _ body: (String) async throws -> T
    ) async throws -> T {
        let list = path + ".list"
        defer { unlink(list) }
        try Data(entries.list).write(to: URL(fileURLWithPath: list))
        return try await body(list)
    }
}
