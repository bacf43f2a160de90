import Foundation
import HTTPClient
import Hashing
import Processes

/// S3-compatible storage. An object is sent in parts as its bytes arrive, and exists once all parts are sent.
///
/// Requires PutObject, GetObject, HeadObject, DeleteObject, ListObjectsV2 and multipart uploads, and no extensions of a
/// single vendor.
public struct S3Store: ObjectStore {
    public struct Settings: Sendable {
        public var limits = HTTPClient.Limits()
        public var retries = RetryPolicy()
        /// The size of a part in bytes. S3 requires at least 5 MiB. An object may have 10,000 parts. The parts after
        /// the first 5,000 are four times this size, so that an object can have about 195 GiB with the default size.
        public var partBytes = 8 << 20

        public init() {}
    }

    private let client: S3Client
    private let settings: Settings
    private var location: S3Location { client.location }

    public init(_ location: S3Location, _ credentials: S3Credentials, settings: Settings = Settings()) {
        client = S3Client(location, credentials, limits: settings.limits, retries: settings.retries)
        self.settings = settings
    }

    private init(_ client: S3Client, _ settings: Settings) {
        self.client = client
        self.settings = settings
    }

    public var place: String { location.place }

    public func stopping(by flag: StopFlag) -> any ObjectStore { S3Store(client.stopping(by: flag), settings) }

    @available(*, noasync, message: "use BoundedStore")
    public func write(_ name: String) throws -> any ObjectWriter {
        S3Writer(client: client, name: name, partBytes: settings.partBytes)
    }

    @available(*, noasync, message: "use BoundedStore")
    public func read(_ name: String) throws -> any ObjectReader {
        try S3Reader(client: client, name: name, step: settings.partBytes)
    }

    @available(*, noasync, message: "use BoundedStore")
    public func list(_ prefix: String) throws -> [StoredObject] {
        try pages(prefix, first: [("list-type", "2")], mark: ("continuation-token", "NextContinuationToken")) { page in
            page.all("Contents").map {
                // An invalid size becomes -1. It differs from every recorded size, so the object is reported to have a
                // wrong size.
                StoredObject(name: self.name($0["Key"] ?? ""), bytes: max(-1, Int($0["Size"] ?? "") ?? -1))
            }
        }.sorted { $0.name < $1.name }
    }

    @available(*, noasync, message: "use BoundedStore")
    public func delete(_ name: String) throws {
        do {
            _ = try client.send(S3Client.Call(method: "DELETE", name: name, operation: "delete"))
        } catch StorageError.missing {}
    }

    @available(*, noasync, message: "use BoundedStore")
    public func clearUnfinished(_ prefix: String) throws -> Int {
        let uploads = try pages(prefix, first: [("uploads", "")], mark: ("key-marker", "NextKeyMarker")) { page in
            page.all("Upload").map { (name: self.name($0["Key"] ?? ""), id: $0["UploadId"] ?? "") }
        }
        for upload in uploads {
            do {
                _ = try client.send(
                    S3Client.Call(
                        method: "DELETE", name: upload.name, query: [("uploadId", upload.id)],
                        operation: "remove the unfinished upload of"))
            } catch StorageError.missing {}
        }
        return uploads.count
    }

    @available(*, noasync, message: "use BoundedStore")
    public var freeBytes: Int? { nil }

    private func name(_ key: String) -> String {
        location.prefix.isEmpty ? key : String(Substring(key.utf8.dropFirst(location.prefix.utf8.count + 1)))
    }

    private func cutShort(_ prefix: String) -> StorageError {
        .failed(
            operation: "list", object: "\(place)/\(prefix)",
            reason: "the server returned an incomplete list without a marker for the next page")
    }

    /// Returns the items of all pages of a listing.
    private func pages<Item>(
        _ prefix: String, first: [(String, String)], mark: (query: String, answer: String),
        _ items: (S3Answer.Element) -> [Item]
    ) throws -> [Item] {
        var all: [Item] = []
        var marks: [(String, String)] = []
        while true {
            let answer = try client.send(
                S3Client.Call(
                    method: "GET", query: first + [("prefix", location.key(prefix))] + marks, operation: "list",
                    validate: S3Client.Call.validateXML))
            guard let page = S3Answer.parse(answer.body) else { throw cutShort(prefix) }
            all += items(page)
            guard page["IsTruncated"] == "true" else { return all }
            // An object that is not listed is treated as missing, so a partial listing is an error.
            guard let next = page[mark.answer], !next.isEmpty,
                marks.first?.1 != next || page["NextUploadIdMarker"] != nil
            else { throw cutShort(prefix) }
            marks = [(mark.query, next)]
            if let upload = page["NextUploadIdMarker"], !upload.isEmpty { marks.append(("upload-id-marker", upload)) }
        }
    }
}

/// Reads an object in ranges. Each range is retried separately. All ranges are of the version that existed when the
/// object was opened.
private final class S3Reader: ObjectReader, @unchecked Sendable {
    // A reader is used by one thread at a time, but not always by the same thread.
    private let client: S3Client
    private let name: String
    private let step: Int
    private var tag: String?
    private var bytes = 0
    private var position = 0
    /// The first range, which is read when the object is opened.
    private var first: [UInt8]?

    /// - Throws: `StorageError.missing` if the object does not exist.
    init(client: S3Client, name: String, step: Int) throws {
        self.client = client
        self.name = name
        self.step = step
        let wrong = "the response is not the requested range"
        let answer = try client.send(
            S3Client.Call(
                method: "GET", name: name, headers: [("range", "bytes=0-\(step - 1)")], operation: "read",
                mayBeEmpty: true,
                validate: { answer in
                    // Some servers answer 200 instead of 416 for an empty object.
                    if answer.status == 200, answer["Content-Length"] == "0" { return nil }
                    guard answer.status == 206, let total = Self.total(answer) else { return wrong }
                    return answer.body.count == min(step, total) ? nil : wrong
                }))
        let isEmpty = answer.status != 206
        bytes = isEmpty ? 0 : Self.total(answer) ?? 0
        tag = answer["ETag"]
        first = isEmpty ? [] : answer.body
    }

    /// Returns the total size in a `Content-Range` header: 1234 in `bytes 0-99/1234`.
    private static func total(_ answer: HTTPResponse) -> Int? {
        answer["Content-Range"]?.split(separator: "/").last.flatMap { Int($0) }.flatMap { $0 < 0 ? nil : $0 }
    }

    func next() throws -> [UInt8]? {
        if let first {
            self.first = nil
            position = first.count
            return first.isEmpty ? nil : first
        }
        guard position < bytes else { return nil }
        let count = min(step, bytes - position)
        let end = position + count
        var headers = [("range", "bytes=\(position)-\(end - 1)")]
        if let tag { headers.append(("if-match", tag)) }
        let answer = try client.send(
            S3Client.Call(
                method: "GET", name: name, headers: headers, operation: "read",
                validate: {
                    $0.body.count == count ? nil : "the response has \($0.body.count) bytes instead of \(count)"
                }))
        position = end
        return answer.body
    }
}
