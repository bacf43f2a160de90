import Foundation
import Processes

/// A chain of programs. The output of each program passes through this process, which checks its format: exit status 0
/// does not prove that a program has done its work.
struct CheckedChain: Sendable {
    struct Stage: Sendable {
        let command: Command
        /// The format of the program's output.
        let format: PartFormat
    }

    let stages: [Stage]

    /// The input of the first program. `next` returns the next piece, and nil at the end. `letGo` is called when no
    /// more input is needed, and makes a waiting `next` return.
    struct Source: Sendable {
        let next: @Sendable () throws -> [UInt8]?
        var letGo: @Sendable () -> Void = {}
    }

    /// Runs the programs until all of them have ended, as a `Pipeline` does.
    ///
    /// - Parameters:
    ///   - first: called before each piece of the first program's output is passed on; it may wait.
    ///   - take: called with each piece of the last program's output.
    /// - Throws: the errors of `Pipeline`, `first` and `take`; `BackupError.badOutput`.
    func run(
        _ source: Source?, first: @escaping @Sendable () throws -> Void = {},
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let feeds = stages.dropLast().map { _ in ByteFeed() }
        let failures = Gathered<(stage: Int, error: any Error)>()
        await withTaskGroup(of: Void.self) { group in
            for (index, stage) in stages.enumerated() {
                let input =
                    index == 0 ? source : Source(next: { try feeds[index - 1].next() }, letGo: feeds[index - 1].close)
                group.addTask {
                    do {
                        try await Self.run(stage, input) { bytes in
                            if index == 0 { try first() }
                            if index < feeds.count { try feeds[index].push(bytes) } else { try take(bytes) }
                        }
                        if index < feeds.count { feeds[index].finish() }
                    } catch {
                        failures.add([(index, error)])
                        // The next program must not mistake the bytes so far for its whole input.
                        if index < feeds.count { feeds[index].finish(error) }
                    }
                }
            }
        }
        // Stages before the failed one throw `ByteFeed.Closed`, because nothing reads their output any more. Stages
        // after the failed one throw the same error again. So the first error that is not `Closed` is the cause.
        let sorted = failures.all.sorted { $0.stage < $1.stage }
        if let failure = sorted.first(where: { !($0.error is ByteFeed.Closed) }) ?? sorted.first { throw failure.error }
    }

    private static func run(
        _ stage: Stage, _ source: Source?, take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let check = FormatCheck(stage.format)
        let given = Given()
        var next: (@Sendable () throws -> [UInt8]?)?
        var letGo: @Sendable () -> Void = { () -> Void in }
        if let source {
            next = {
                let piece = try source.next()
                given.add(piece)
                return piece
            }
            letGo = source.letGo
        }
        try await Pipeline([stage.command]).run(source: next, letGo: letGo) { bytes in
            check.take(bytes)
            try take(bytes)
        }
        let problem =
            source != nil && !given.isWhole
            ? "the program did not read all of its input" : check.problem(given: source == nil ? nil : given.count)
        guard let problem else { return }
        let name = (stage.command.program as NSString).lastPathComponent
        throw BackupError.badOutput(program: name, reason: problem)
    }

    /// Counts the input of a program. Used by the thread that feeds the program, and read after that thread has ended.
    private final class Given: @unchecked Sendable {
        private(set) var count = 0
        private(set) var isWhole = false

        func add(_ piece: [UInt8]?) {
            count += piece?.count ?? 0
            if piece == nil { isWhole = true }
        }
    }
}

/// The formats that `FormatCheck` recognizes by the first and last bytes.
enum PartFormat: Sendable {
    /// Any bytes, or none.
    case text
    /// The output of pg_dump -Fc.
    case archive
    /// The output of pg_restore -f.
    case script
    /// The output of pg_dumpall.
    case clusterScript
    case zstd, age
}

extension Manifest.Part {
    /// The format of the part before compression.
    var format: PartFormat {
        switch kind {
        case .roles: .clusterScript
        case .catalog, .sequences: .text
        case .before, .data, .largeObjects, .after: slice == nil ? .archive : .text
        }
    }
}

/// Checks whether a stream of bytes can have the expected format. Used by one thread at a time.
final class FormatCheck: @unchecked Sendable {
    private let format: PartFormat
    private var count = 0
    private var head: [UInt8] = []
    private var tail: [UInt8] = []
    /// How many bytes at the start are kept. The header of age is long if a file has many recipients.
    private static let headBytes = 65536
    private static let tailBytes = 512

    init(_ format: PartFormat) { self.format = format }

    func take(_ bytes: UnsafeRawBufferPointer) {
        count += bytes.count
        if head.count < Self.headBytes { head += bytes.prefix(Self.headBytes - head.count) }
        tail += bytes.suffix(Self.tailBytes)
        if tail.count > Self.tailBytes { tail.removeFirst(tail.count - Self.tailBytes) }
    }

    /// Returns what is wrong with the bytes so far; nil if nothing is.
    ///
    /// - Parameter given: the size of the input that was compressed or encrypted into these bytes, if it is known.
    func problem(given: Int? = nil) -> String? {
        if case .text = format { return nil }
        if count == 0 { return "it is empty" }
        switch format {
        case .text: return nil
        case .archive:
            if !head.starts(with: "PGDMP".utf8) { return "it is not an archive of pg_dump" }
            // An archive ends with five zero bytes, whether it ends with the rows of a table, with large objects, or
            // has no data.
            return tail.suffix(5).elementsEqual([0, 0, 0, 0, 0]) ? nil : "it is truncated"
        case .script: return ends(with: "PostgreSQL database dump complete")
        case .clusterScript: return ends(with: "PostgreSQL database cluster dump complete")
        case .zstd: return head.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) ? nil : "it is not compressed with zstd"
        case .age: return ageProblem(given)
        }
    }

    private func ends(with words: String) -> String? {
        String(decoding: tail, as: UTF8.self).contains(words) ? nil : "it is truncated before its end marker"
    }

    /// Returns how a file violates the format age-encryption.org/v1, or how its size does not match the size of its
    /// input; nil if all is well. The format: a header whose last line begins with ---, a nonce of 16 bytes, and chunks
    /// of 64 KiB, each with a tag of 16 bytes.
    private func ageProblem(_ given: Int?) -> String? {
        guard head.starts(with: "age-encryption.org/v1\n".utf8) else { return "it is not encrypted with age" }
        guard let last = head.firstRange(of: Array("\n--- ".utf8)),
            let end = head[last.upperBound...].firstIndex(of: UInt8(ascii: "\n"))
        else { return "its header is incomplete" }
        let payload = count - (end + 1) - 16
        guard let given else { return payload > 16 ? nil : "it has no content" }
        let pieces = max(1, (given + 65535) / 65536)
        return payload == given + 16 * pieces ? nil : "it does not contain the \(given) bytes of its input"
    }
}
