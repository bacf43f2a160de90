import Foundation
import Synchronization
import Testing

@testable import AdminHTTP

@Suite(.ownThread, .timeLimit(.minutes(1)))
struct UnixSocketTests {
    /// Removed with what is in it when the test is over.
    private final class Folder: Sendable {
        let path = "/tmp/reeve-http-\(UUID().uuidString.prefix(8))"

        init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

        deinit { try? FileManager.default.removeItem(atPath: path) }
    }

    private let made: Folder

    init() throws { made = try Folder() }

    private var folder: String { made.path }

    private var path: String { "\(folder)/http" }

    private func start() throws -> AdminServer { try AdminServer(.unix(path: path), routes: []) }

    private func mode(_ path: String) -> mode_t? {
        var found = stat()
        return lstat(path, &found) == 0 ? found.st_mode : nil
    }

    /// A socket that somebody made and did not remove.
    private func abandonSocket(_ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let done = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 && listen(descriptor, 1) == 0
            }
        }
        try #require(done)
    }

    @Test func `a socket serves, one that is listened on stays, and nothing is left after it`() throws {
        for _ in 0..<2 {
            let first = try start()
            let error = #expect(throws: ServerError.self) { try start() }
            #expect(error?.description.contains("another process listens") == true)
            #expect(mode(path) != nil)
            first.stop()
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
        }
    }

    @Test func `one that was left over is taken again`() throws {
        try abandonSocket(path)
        let server = try start()
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["http"])
        server.stop()
        #expect(mode(path) == nil)
    }

    @Test func `what is no socket is never removed, and is named`() throws {
        let keep = "what somebody keeps\n"
        try keep.write(toFile: path, atomically: true, encoding: .utf8)
        let file = #expect(throws: ServerError.self) { try start() }
        #expect(file?.description.contains("a file already exists") == true)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == keep)

        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        #expect(throws: ServerError.self) { try start() }
        #expect(mode(path).map { $0 & S_IFMT } == S_IFDIR)

        try FileManager.default.removeItem(atPath: path)
        #expect(mkfifo(path, 0o600) == 0)
        #expect(throws: ServerError.self) { try start() }
        #expect(mode(path).map { $0 & S_IFMT } == S_IFIFO)

        try FileManager.default.removeItem(atPath: path)
        let target = "\(folder)/target"
        try abandonSocket(target)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: target)
        let link = #expect(throws: ServerError.self) { try start() }
        #expect(link?.description.contains("a symbolic link already exists") == true)
        #expect(mode(path).map { $0 & S_IFMT } == S_IFLNK && mode(target) != nil)
        #expect(try Set(FileManager.default.contentsOfDirectory(atPath: folder)) == ["http", "target"])
    }

    @Test(.enabled(if: geteuid() == 0, "another user's socket can be made by root alone"))
    func `another user's socket stays`() throws {
        try abandonSocket(path)
        chown(path, 65534, 65534)
        let error = #expect(throws: ServerError.self) { try start() }
        #expect(error?.description.contains("another user") == true)
        #expect(mode(path) != nil)
    }

    @Test func `stopping removes no other's socket`() throws {
        let server = try start()
        try FileManager.default.removeItem(atPath: path)
        try abandonSocket(path)
        server.stop()
        #expect(mode(path) != nil)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["http"])
    }

    /// Looks at whatever appears in the folder, all the time, while sockets are made in it.
    @Test func `it is its owner's alone from its first moment, whatever the umask`() throws {
        let seen = Mutex<[mode_t: Int]>([:])
        let isDone = Atomic(false)
        let thread = Thread { [folder] in
            while !isDone.load(ordering: .relaxed) {
                for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
                    var found = stat()
                    guard lstat("\(folder)/\(name)", &found) == 0 else { continue }
                    seen.withLock { $0[found.st_mode & 0o7777, default: 0] += 1 }
                }
            }
        }
        let before = umask(0)
        defer { umask(before) }
        thread.start()
        for _ in 0..<200 {
            let socket = try UnixSocketFile(path)
            #expect(mode(path).map { $0 & 0o7777 } == 0o600)
            close(socket.descriptor)
            socket.remove()
        }
        isDone.store(true, ordering: .relaxed)
        #expect(seen.withLock { Set($0.keys) }.isSubset(of: [0o600]))
    }

    /// Of many that start at once over a socket that was left, one listens, and it stays so.
    @Test func `of many that start at once one has the path`() async throws {
        for _ in 0..<20 {
            try abandonSocket(path)
            let servers = await withTaskGroup(of: AdminServer?.self) { group in
                for _ in 0..<8 { group.addTask { try? self.start() } }
                return await group.reduce(into: [AdminServer]()) { if let server = $1 { $0.append(server) } }
            }
            #expect(servers.count == 1)
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["http"])
            for server in servers { server.stop() }
            try? FileManager.default.removeItem(atPath: path)
        }
    }
}
