import Foundation
import HTTPClient
import Synchronization
import TestSupport
import Testing

@testable import Storage

/// Against moto with signatures checked, through a proxy that does harm.
@Suite("S3-compatible storage", .blocking)
struct S3Tests {
    private static let part = 5 << 20

    /// A store in a bucket of its own.
    private func store(
        _ endpoint: String, on server: S3Server, settings more: String = "", attempts: Int = 4, secret: String? = nil,
        bucket: String = "b-\(UUID().uuidString.lowercased())", makesBucket: Bool = true,
        stall: Duration = .seconds(30)
    ) throws -> S3Store {
        let credentials = S3Credentials(accessKey: server.accessKey, secretKey: secret ?? server.secretKey)
        if makesBucket {
            let location = try S3Location("s3://\(bucket)?endpoint=\(server.endpoint)")
            let headers = more.contains("lock=") ? [("x-amz-bucket-object-lock-enabled", "True")] : []
            _ = try S3Client(
                location, S3Credentials(accessKey: server.accessKey, secretKey: server.secretKey), limits: .init(),
                retries: RetryPolicy()
            ).send(S3Client.Call(method: "PUT", headers: headers, operation: "make"))
        }
        var settings = S3Store.Settings()
        settings.partBytes = Self.part
        settings.retries = RetryPolicy(attempts: attempts, first: .milliseconds(5), longest: .milliseconds(50))
        settings.limits.stall = stall
        return S3Store(
            try S3Location("s3://\(bucket)/some/prefix?endpoint=\(endpoint)\(more)"), credentials, settings: settings)
    }

    private func put(_ bytes: [UInt8], _ name: String, in store: S3Store) throws {
        let writer = try store.write(name)
        for start in stride(from: 0, to: bytes.count, by: 100_000) {
            try bytes[start..<min(start + 100_000, bytes.count)].withUnsafeBytes { try writer.write($0) }
        }
        try writer.commit()
    }

    private func get(_ name: String, from store: S3Store) throws -> [UInt8] {
        let reader = try store.read(name)
        var all: [UInt8] = []
        while let piece = try reader.next() { all += piece }
        return all
    }

    private static let bytes = Array(
        FileHandle(forReadingAtPath: "/dev/urandom")?.readData(ofLength: (12 << 20) + 345) ?? Data())

    private func content(_ count: Int) -> [UInt8] { Array(Self.bytes.prefix(count)) }

    @Test(
        "what is written is read", .timeLimit(.minutes(2)),
        arguments: [0, 1, 5 << 20, (5 << 20) + 1, (12 << 20) + 345])
    func roundTrip(count: Int) throws {
        let server = try S3Server.shared()
        let store = try store(server.endpoint, on: server, settings: count % 2 == 0 ? "&checksums=sha256" : "")
        let bytes = content(count)
        let name = "a b/ü+%~(1).dump"
        try put(bytes, name, in: store)
        #expect(try get(name, from: store) == bytes)
        #expect(try store.list("a b/") == [StoredObject(name: name, bytes: count)])
        #expect(try store.list("other/").isEmpty)
        try store.delete(name)
        try store.delete(name)
        #expect(try store.list("").isEmpty)
        #expect(throws: StorageError.self) { try store.read(name) }
    }

    @Test("more objects than a page of a listing", .timeLimit(.minutes(2)))
    func pages() throws {
        let server = try S3Server.shared()
        let store = try store(server.endpoint, on: server)
        for number in 0..<1100 { try put([1], "many/\(number)", in: store) }
        #expect(try store.list("many/").count == 1100)
        // A part of the list is not taken for the whole.
        let proxy = try S3FaultProxy(before: server) { $0.method == "GET" ? .withoutMark : .none }
        defer { proxy.close() }
        let cut = S3Store(
            try S3Location("\(store.place)?endpoint=\(proxy.endpoint)"),
            S3Credentials(accessKey: server.accessKey, secretKey: server.secretKey))
        let error = #expect(throws: StorageError.self) { try cut.list("many/") }
        #expect(error?.description.contains("without a marker for the next page") == true)
    }

    @Test("a name is what comes after the prefix and its slash, byte by byte")
    func combiningNames() throws {
        let server = try S3Server.shared()
        let store = try store(server.endpoint, on: server)
        // With the slash before it, its first scalar is one character.
        let name = "\u{301}a/x"
        try put([1], name, in: store)
        let names = try store.list("").map { Array($0.name.utf8) }
        #expect(names == [Array(name.utf8)])
    }

    @Test("a writer without commit leaves nothing, and one that was killed leaves what is cleared")
    func unfinished() throws {
        let server = try S3Server.shared()
        let store = try store(server.endpoint, on: server)
        let bytes = content(11 << 20)
        let writer = try store.write("x/gone")
        try bytes.withUnsafeBytes { try writer.write($0) }
        writer.discard()
        #expect(try store.list("").isEmpty)
        #expect(try store.clearUnfinished("x/") == 0)
        // Who is killed does not get to discard: its request for that is lost.
        let proxy = try S3FaultProxy(before: server) { $0.method == "DELETE" ? .resetBefore : .none }
        defer { proxy.close() }
        let bucket = String(store.place.dropFirst(5).prefix { $0 != "/" })
        let killed = try self.store(proxy.endpoint, on: server, bucket: bucket, makesBucket: false)
        let second = try killed.write("x/killed")
        try bytes.withUnsafeBytes { try second.write($0) }
        second.discard()
        #expect(try store.clearUnfinished("y/") == 0)
        #expect(try store.clearUnfinished("x/") == 1)
        #expect(try store.clearUnfinished("x/") == 0)
    }

    @Test("Object Lock, and the sums that it wants")
    func locked() throws {
        let server = try S3Server.shared()
        // moto keeps no lock of a multipart upload: what was asked for is seen on the way.
        let asked = Asked()
        let proxy = try S3FaultProxy(before: server) { request in
            if request.method == "POST", request.target.hasSuffix("?uploads=") { asked.note(request.headers) }
            return .none
        }
        defer { proxy.close() }
        let store = try store(proxy.endpoint, on: server, settings: "&lock=governance:1d")
        let bytes = content(11 << 20)
        try put(bytes, "kept", in: store)
        try put([1, 2, 3], "small", in: store)
        #expect(try get("kept", from: store) == bytes)
        let client = S3Client(
            try S3Location("\(store.place)?endpoint=\(server.endpoint)"),
            S3Credentials(accessKey: server.accessKey, secretKey: server.secretKey), limits: .init(),
            retries: RetryPolicy())
        let head = try client.send(S3Client.Call(method: "HEAD", name: "small", operation: "look at"))
        #expect(head["x-amz-object-lock-mode"] == "GOVERNANCE")
        #expect(asked.headers["x-amz-object-lock-mode"] == "GOVERNANCE")
        #expect(asked.headers["x-amz-object-lock-retain-until-date"] != nil)
    }

    private final class Asked: Sendable {
        private let noted = Mutex<[String: String]>([:])
        var headers: [String: String] { noted.withLock { $0 } }
        func note(_ headers: [String: String]) { noted.withLock { $0 = headers } }
    }

    @Test("a wrong secret is refused, at once and by name")
    func wrongSecret() throws {
        let server = try S3Server.shared()
        let proxy = try S3FaultProxy(before: server) { _ in .none }
        defer { proxy.close() }
        let store = try store(proxy.endpoint, on: server, secret: "wrong")
        let error = #expect(throws: StorageError.self) { try put([1], "x", in: store) }
        #expect("\(try #require(error))".contains("SignatureDoesNotMatch"))
        #expect(proxy.requests == 1)
    }

    @Test("a bucket that is not there is said to be missing, by its server's words")
    func noBucket() throws {
        let server = try S3Server.shared()
        let store = try store(server.endpoint, on: server, makesBucket: false)
        let error = #expect(throws: StorageError.self) { try put([1], "x", in: store) }
        #expect("\(try #require(error))".contains("NoSuchBucket"))
    }

    /// Each fault at each request of a whole exchange: the third request is the second part, and so on.
    @Test(
        "a fault that passes costs nothing but a try", .timeLimit(.minutes(3)),
        arguments: [
            .status(500, code: "InternalError"), .status(503, code: "SlowDown"), .status(429, code: "TooManyRequests"),
            .status(400, code: "RequestTimeout"), .errorInside200(code: "InternalError"), .resetBefore, .resetAfter,
            .truncated, .twice, .silence,
        ] as [S3FaultProxy.Fault])
    func passing(fault: S3FaultProxy.Fault) throws {
        let server = try S3Server.shared()
        let bytes = content(11 << 20)
        // Begin, three parts, complete, list, three reads.
        for number in fault == .silence ? [2, 5, 8] : Array(1...9) {
            let proxy = try S3FaultProxy(before: server) { $0.number == number ? fault : .none }
            defer { proxy.close() }
            let store = try store(
                proxy.endpoint, on: server, stall: fault == .silence ? .seconds(2) : .seconds(30))
            try put(bytes, "x/y", in: store)
            #expect(try store.list("x/") == [StoredObject(name: "x/y", bytes: bytes.count)], "at \(number)")
            #expect(try get("x/y", from: store) == bytes, "at \(number)")
            #expect(proxy.faults == 1, "at \(number)")
        }
    }

    @Test(
        "a fault that stays is an error that names it", .timeLimit(.minutes(2)),
        arguments: [
            (.status(500, code: "InternalError"), "InternalError"),
            (.status(403, code: "AccessDenied"), "AccessDenied"),
            (.errorInside200(code: "InternalError"), "InternalError"), (.resetBefore, "tried 4 times"),
            (.truncated, "tried 4 times"),
        ] as [(S3FaultProxy.Fault, String)])
    func staying(fault: S3FaultProxy.Fault, named: String) throws {
        let server = try S3Server.shared()
        let proxy = try S3FaultProxy(before: server) { $0.number >= 2 ? fault : .none }
        defer { proxy.close() }
        let store = try store(proxy.endpoint, on: server)
        let error = #expect(throws: StorageError.self) { try put(content(11 << 20), "x/y", in: store) }
        #expect("\(try #require(error))".contains(named))
        // What is carried out, and only not answered, may be there; nobody relies on it.
        if fault == .truncated { return }
        let direct = try self.store(
            server.endpoint, on: server, bucket: String(store.place.dropFirst(5).prefix { $0 != "/" }),
            makesBucket: false)
        #expect(try direct.list("").isEmpty)
    }

    @Test("a clock that is off by an hour is set by the server's")
    func skewed() throws {
        let server = try S3Server.shared()
        let proxy = try S3FaultProxy(before: server) { _ in .skewed }
        defer { proxy.close() }
        let store = try store(proxy.endpoint, on: server)
        try put(content(11 << 20), "x/y", in: store)
        #expect(try store.list("").count == 1)
        // The first request was refused, and no other.
        #expect(proxy.requests == 1 + 1 + 3 + 1 + 1)
    }
}

@Suite("Retries")
struct RetryTests {
    @Test("delays grow to the longest, with jitter, and end")
    func delays() {
        let policy = RetryPolicy(attempts: 5, first: .milliseconds(100), longest: .milliseconds(350))
        #expect(
            (1...5).map { policy.delay(after: $0, random: 1) }
                == [.milliseconds(100), .milliseconds(200), .milliseconds(350), .milliseconds(350), nil])
        #expect(policy.delay(after: 3, random: 0) == .zero)
        #expect(policy.delay(after: 1, random: 0, asked: .milliseconds(300)) == .milliseconds(300))
        #expect(policy.delay(after: 1, random: 0, asked: .seconds(3600)) == .milliseconds(350))
    }

    @Test("a URL is shown without what may be secret")
    func redacted() {
        #expect(HTTPError.redacted("https://u:p@h/x?token=1#f") == "https://h/x")
        #expect(HTTPError.redacted("http://h/a@b") == "http://h/a@b")
    }
}
