import Foundation
import Hashing

/// Signs requests with AWS Signature Version 4 ("Authenticating Requests", Amazon S3 API Reference). Pure.
///
/// libcurl can sign requests too, but versions before 8.3 do not sign query strings in the required canonical form.
struct Signature {
    let credentials: S3Credentials
    let region: String

    /// Returns the headers to add to a request.
    ///
    /// - Parameters:
    ///   - path: the path of the request, percent-encoded.
    ///   - query: the query items, not encoded.
    ///   - headers: the other headers to sign, including `host`, with names in lower case.
    ///   - payload: the SHA-256 of the body, in hexadecimal.
    func headers(
        method: String, path: String, query: [(String, String)], headers: [(String, String)], payload: String,
        at time: Date
    ) -> [(name: String, value: String)] {
        let stamp = Self.stamp(time)
        let day = String(stamp.prefix(8))
        var signed = headers + [("x-amz-content-sha256", payload), ("x-amz-date", stamp)]
        if let token = credentials.sessionToken { signed.append(("x-amz-security-token", token)) }
        signed.sort { $0.0 < $1.0 }
        let names = signed.map(\.0).joined(separator: ";")
        let canonical = [
            method, path, Self.query(query), signed.map { "\($0.0):\(Self.squeezed($0.1))\n" }.joined(), names, payload,
        ].joined(separator: "\n")
        let scope = "\(day)/\(region)/s3/aws4_request"
        let text = ["AWS4-HMAC-SHA256", stamp, scope, Digest.hex(Digest.of(canonical.utf8))].joined(separator: "\n")
        var key = Array("AWS4\(credentials.secretKey)".utf8)
        for word in [day, region, "s3", "aws4_request"] { key = hmacSHA256(key: key, word.utf8) }
        let authorization =
            "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope), SignedHeaders=\(names), "
            + "Signature=\(Digest.hex(hmacSHA256(key: key, text.utf8)))"
        return signed.filter { $0.0 != "host" }.map { ($0.0, $0.1) } + [("authorization", authorization)]
    }

    /// Returns a query string in canonical form. Requests are sent with the same string.
    static func query(_ items: [(String, String)]) -> String {
        items.map { (encoded($0.0), encoded($0.1)) }.sorted { ($0.0, $0.1) < ($1.0, $1.1) }
            .map { "\($0.0)=\($0.1)" }.joined(separator: "&")
    }

    /// Percent-encodes all characters except the unreserved characters of RFC 3986.
    ///
    /// - Parameter slash: whether slashes are kept.
    static func encoded(_ text: String, keeping slash: Bool = false) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            case UInt8(ascii: "/") where slash: result += "/"
            default: result += String(format: "%%%02X", byte)
            }
        }
        return result
    }

    private static func squeezed(_ value: String) -> String {
        value.split(separator: " ").joined(separator: " ")
    }

    /// Returns a time in the form `20130524T000000Z`.
    static func stamp(_ time: Date) -> String {
        time.formatted(Date.ISO8601FormatStyle(dateSeparator: .omitted, timeSeparator: .omitted))
    }
}
