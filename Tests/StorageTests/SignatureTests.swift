import Foundation
import Hashing
import Testing

@testable import Storage

/// The examples of "Authenticating Requests: Using the Authorization Header" in Amazon's S3 API reference.
@Suite("Signatures of S3")
struct SignatureTests {
    private let signature = Signature(
        credentials: S3Credentials(
            accessKey: "AKIAIOSFODNN7EXAMPLE", secretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        region: "us-east-1")
    private let time = Date(timeIntervalSince1970: 1_369_353_600)
    private let empty = Digest.hex(Digest.of([]))

    @Test(
        "Amazon's own examples",
        arguments: [
            (
                "GET", "/test.txt", [(String, String)](), [("range", "bytes=0-9")], "",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
            ),
            (
                "PUT", "/test%24file.text", [],
                [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
                "Welcome to Amazon S3.", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            ),
            (
                "GET", "/", [("lifecycle", "")], [], "",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
            ),
            (
                "GET", "/", [("prefix", "J"), ("max-keys", "2")], [], "",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            ),
        ])
    func examples(
        method: String, path: String, query: [(String, String)], headers: [(String, String)], body: String,
        expected: String
    ) throws {
        let signed = signature.headers(
            method: method, path: path, query: query, headers: [("host", "examplebucket.s3.amazonaws.com")] + headers,
            payload: Digest.hex(Digest.of(body.utf8)), at: time)
        let authorization = try #require(signed.first { $0.name == "authorization" }?.value)
        #expect(authorization.hasSuffix("Signature=\(expected)"))
        #expect(signed.contains { $0.name == "x-amz-date" && $0.value == "20130524T000000Z" })
        #expect(!signed.contains { $0.name == "host" })
    }

    @Test("a session token is sent and signed")
    func sessionToken() throws {
        func headers(_ token: String?) throws -> [String: String] {
            let credentials = S3Credentials(accessKey: "key", secretKey: "secret", sessionToken: token)
            let signed = Signature(credentials: credentials, region: "us-east-1").headers(
                method: "GET", path: "/x", query: [], headers: [("host", "h")], payload: empty, at: time)
            return Dictionary(signed.map { ($0.name, $0.value) }) { one, _ in one }
        }
        let (with, other, without) = (try headers("token/1"), try headers("token/2"), try headers(nil))
        #expect(with["x-amz-security-token"] == "token/1" && without["x-amz-security-token"] == nil)
        let signed = try #require(with["authorization"])
        #expect(signed.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"))
        #expect(signed != other["authorization"] && signed != without["authorization"])
    }

    @Test(
        "locations",
        arguments: [
            ("s3://b", "https://s3.us-east-1.amazonaws.com", "b", "", false),
            ("s3://b/p/q/", "https://s3.us-east-1.amazonaws.com", "b", "p/q", false),
            ("s3://b?region=eu-west-1", "https://s3.eu-west-1.amazonaws.com", "b", "", false),
            ("s3://b/p?endpoint=http://localhost:9000/", "http://localhost:9000", "b", "p", true),
            ("s3://b/p?endpoint=https%3A%2F%2Fh&path_style=no", "https://h", "b", "p", false),
        ])
    func locations(text: String, endpoint: String, bucket: String, prefix: String, isPathStyle: Bool) throws {
        let location = try S3Location(text)
        #expect(location.endpoint == endpoint && location.bucket == bucket && location.prefix == prefix)
        #expect(location.isPathStyle == isPathStyle)
    }

    @Test(
        "what is no location is refused",
        arguments: [
            "s3://", "s3:///p", "s3://key:secret@b/p", "s3://b?endpoint=ftp://h", "s3://b?endpoint=http://u:p@h",
            "s3://b?checksums=md5", "s3://b?lock=forever", "s3://b?lock=governance:0d", "s3://b?path_style=maybe",
            "s3://b?colour=red", "s3://b?region", "http://b",
        ])
    func refused(text: String) {
        #expect(throws: StorageError.self) { try S3Location(text) }
    }

    @Test("a location with Object Lock, checksums and a bucket in the host's name")
    func settings() throws {
        let location = try S3Location("s3://b/p?lock=compliance:30d&checksums=sha256&profile=x")
        #expect(location.lock?.mode == "COMPLIANCE" && location.lock?.days == 30)
        #expect(location.hasChecksums && location.profile == "x")
        #expect(location.base.origin == "https://b.s3.us-east-1.amazonaws.com" && location.base.path == "")
        #expect(location.place == "s3://b/p")
    }

    @Test("credentials of a profile")
    func profiles() {
        let text = """
            [default]
            aws_access_key_id = A
            aws_secret_access_key = S=1
            # a comment
            [other]
            aws_access_key_id=B
            aws_secret_access_key=T
            aws_session_token=U
            [half]
            aws_access_key_id=C
            """
        #expect(S3Credentials.read(text, profile: "default") == S3Credentials(accessKey: "A", secretKey: "S=1"))
        #expect(
            S3Credentials.read(text, profile: "other")
                == S3Credentials(accessKey: "B", secretKey: "T", sessionToken: "U"))
        #expect(S3Credentials.read(text, profile: "half") == nil)
        #expect(S3Credentials.read(text, profile: "none") == nil)
    }
}
