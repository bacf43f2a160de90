import Foundation
import HTTPClient
import Synchronization

/// An S3 server for all tests: moto, which checks every signature. Installed by scripts/test.
public final class S3Server: Sendable {
    public let port: Int
    public let accessKey: String
    public let secretKey: String

    private static let starting = Mutex<S3Server?>(nil)

    /// The server, started by the first who asks; it ends with this process.
    public static func shared() throws -> S3Server {
        try starting.withLock { server in
            if let server { return server }
            let made = try S3Server()
            server = made
            return made
        }
    }

    /// A bucket for those who need no other; everybody uses a prefix of their own.
    public static let bucket = "shared"

    public var endpoint: String { "http://127.0.0.1:\(port)" }

    private init() throws {
        let program = "\(FileManager.default.currentDirectoryPath)/.build/moto/bin/python"
        // The system chooses a port, and the server tells which. It ends soon after the process that started it. Not by
        // a pipeline of ours, for this waits on a thread that tasks may need.
        let script = """
            import os, threading, time
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
            from werkzeug.serving import make_server
            parent = os.getppid()
            def watch():
                while os.getppid() == parent:
                    time.sleep(0.5)
                os._exit(0)
            threading.Thread(target=watch, daemon=True).start()
            server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
            print(server.server_port, flush=True)
            server.serve_forever()
            """
        let line = "INITIAL_NO_AUTH_ACTION_COUNT=4 exec '\(program)' -W ignore -c '\(script)' 2>/dev/null </dev/null"
        var text = [CChar](repeating: 0, count: 32)
        guard let output = popen(line, "re"), fgets(&text, Int32(text.count), output) != nil,
            let port = Int(String(decoding: text.prefix { $0 > 32 }.map { UInt8($0) }, as: UTF8.self))
        else { throw NeverHappened(what: "moto starts; 'scripts/test' installs it") }
        self.port = port
        let http = HTTPClient()
        func ask(_ action: String) throws -> String {
            let request = HTTPRequest(
                "POST", "http://127.0.0.1:\(port)/",
                headers: [
                    (
                        "authorization",
                        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, "
                            + "SignedHeaders=host, Signature=0"
                    ),
                    ("content-type", "application/x-www-form-urlencoded"),
                ], body: Array("Version=2010-05-08&UserName=reeve&\(action)".utf8))
            return String(decoding: try http.send(request).body, as: UTF8.self)
        }
        func between(_ text: String, _ name: String) -> String {
            text.components(separatedBy: "<\(name)>").last?.components(separatedBy: "</\(name)>").first ?? ""
        }
        _ = try ask("Action=CreateUser")
        let key = try ask("Action=CreateAccessKey")
        let policy = #"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#
        let encoded = policy.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        _ = try ask("Action=PutUserPolicy&PolicyName=all&PolicyDocument=\(encoded)")
        _ = try http.send(
            HTTPRequest(
                "PUT", "http://127.0.0.1:\(port)/\(Self.bucket)",
                headers: [
                    (
                        "authorization",
                        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, "
                            + "SignedHeaders=host, Signature=0"
                    )
                ]))
        accessKey = between(key, "AccessKeyId")
        secretKey = between(key, "SecretAccessKey")
    }
}
