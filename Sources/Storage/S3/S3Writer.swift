import Foundation
import HTTPClient
import Hashing

/// Writes an object: with a single request if it is small, else with a multipart upload.
final class S3Writer: ObjectWriter {
    private let client: S3Client
    private let name: String
    private let partBytes: Int
    private var buffer: [UInt8] = []
    private var upload: String?
    private var parts: [(tag: String, checksum: String)] = []
    private var total = 0
    private var isDone = false

    init(client: S3Client, name: String, partBytes: Int) {
        self.client = client
        self.name = name
        self.partBytes = partBytes
    }

    deinit { discard() }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        buffer.append(contentsOf: bytes)
        total += bytes.count
        let limit = parts.count < 5000 ? partBytes : partBytes * 4
        if buffer.count >= limit { try sendPart() }
    }

    func commit() throws {
        if upload == nil {
            _ = try client.send(
                S3Client.Call(
                    method: "PUT", name: name, headers: sums(buffer) + lock(), body: buffer, operation: "write"))
        } else {
            if !buffer.isEmpty { try sendPart() }
            try complete()
        }
        buffer = []
        isDone = true
    }

    func discard() {
        guard !isDone, let upload else { return }
        isDone = true
        // An upload that cannot be aborted is removed later by `clearUnfinished`.
        _ = try? client.send(
            S3Client.Call(method: "DELETE", name: name, query: [("uploadId", upload)], operation: "abort the upload of")
        )
    }

    private func begin() throws -> String {
        if let upload { return upload }
        var headers = lock()
        if location.hasChecksums { headers.append(("x-amz-checksum-algorithm", "SHA256")) }
        let answer = try client.send(
            S3Client.Call(
                method: "POST", name: name, query: [("uploads", "")], headers: headers, operation: "write",
                validate: S3Client.Call.validateXML))
        guard let id = S3Answer.parse(answer.body)?["UploadId"], !id.isEmpty else {
            throw failed("the server returned no upload ID")
        }
        upload = id
        return id
    }

    private func sendPart() throws {
        let id = try begin()
        let answer = try client.send(
            S3Client.Call(
                method: "PUT", name: name, query: [("partNumber", "\(parts.count + 1)"), ("uploadId", id)],
                headers: sums(buffer), body: buffer, operation: "write"))
        guard let tag = answer["ETag"] else { throw failed("the server returned no ETag for a part") }
        parts.append((tag, location.hasChecksums ? Data(Digest.of(buffer)).base64EncodedString() : ""))
        buffer.removeAll(keepingCapacity: true)
    }

    /// Completes the multipart upload.
    ///
    /// If the response is lost, the retried request fails, because the upload no longer exists on the server. In that
    /// case the upload counts as complete if an object of the expected size exists, because no other writer uses the
    /// object's name.
    private func complete() throws {
        let list = parts.enumerated().map { number, part in
            "<Part><PartNumber>\(number + 1)</PartNumber><ETag>\(part.tag)</ETag>"
                + (part.checksum.isEmpty ? "" : "<ChecksumSHA256>\(part.checksum)</ChecksumSHA256>") + "</Part>"
        }
        let body =
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\(list.joined())"
            + "</CompleteMultipartUpload>"
        do {
            _ = try client.send(
                S3Client.Call(
                    method: "POST", name: name, query: [("uploadId", upload ?? "")], body: Array(body.utf8),
                    operation: "write", validate: S3Client.Call.validateXML))
        } catch {
            let head = try? client.send(S3Client.Call(method: "HEAD", name: name, operation: "write"))
            guard head?["Content-Length"] == "\(total)" else { throw error }
        }
    }

    private var location: S3Location { client.location }

    private func failed(_ reason: String) -> StorageError {
        .failed(operation: "write", object: "\(location.place)/\(name)", reason: reason)
    }

    /// Returns the headers with the checksum of a body, which the server checks.
    private func sums(_ body: [UInt8]) -> [(String, String)] {
        if location.hasChecksums { return [("x-amz-checksum-sha256", Data(Digest.of(body)).base64EncodedString())] }
        // Object Lock requires a checksum header.
        return location.lock == nil ? [] : [("content-md5", Data(md5(body)).base64EncodedString())]
    }

    private func lock() -> [(String, String)] {
        guard let lock = location.lock else { return [] }
        let until = Date().addingTimeInterval(Double(lock.days) * 86400)
        return [
            ("x-amz-object-lock-mode", lock.mode),
            ("x-amz-object-lock-retain-until-date", until.formatted(.iso8601)),
        ]
    }
}
