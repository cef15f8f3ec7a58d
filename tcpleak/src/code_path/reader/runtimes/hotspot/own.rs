//! Which Java code is the program's own, and how its classes are called.

/// Packages of the language, of what is built upon it, and of libraries and frameworks on the way to
/// a socket.
const FOREIGN: [&str; 85] = [
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "com.sun.",
    "jakarta.",
    "kotlin.",
    "kotlinx.",
    "scala.",
    "clojure.",
    "groovy.",
    "org.codehaus.groovy.",
    "org.apache.groovy.",
    "org.graalvm.",
    "akka.",
    "com.amazonaws.",
    "com.datastax.",
    "com.fasterxml.",
    "com.github.benmanes.caffeine.",
    "com.google.api.",
    "com.google.cloud.",
    "com.google.common.",
    "com.ibm.db2.",
    "com.microsoft.sqlserver.",
    "com.mongodb.",
    "com.mysql.",
    "com.netflix.",
    "com.ning.http.",
    "com.rabbitmq.",
    "com.squareup.",
    "com.typesafe.",
    "com.zaxxer.hikari.",
    "feign.",
    "io.dropwizard.",
    "io.grpc.",
    "io.helidon.",
    "io.ktor.",
    "io.lettuce.",
    "io.micrometer.",
    "io.micronaut.",
    "io.netty.",
    "io.opentelemetry.",
    "io.quarkus.",
    "io.r2dbc.",
    "io.reactivex.",
    "io.smallrye.",
    "io.undertow.",
    "io.vertx.",
    "okhttp3.",
    "okio.",
    "oracle.",
    "org.aopalliance.",
    "org.apache.activemq.",
    "org.apache.camel.",
    "org.apache.catalina.",
    "org.apache.commons.",
    "org.apache.coyote.",
    "org.apache.cxf.",
    "org.apache.hc.",
    "org.apache.http.",
    "org.apache.kafka.",
    "org.apache.log4j.",
    "org.apache.logging.",
    "org.apache.maven.",
    "org.apache.mina.",
    "org.apache.pekko.",
    "org.apache.thrift.",
    "org.apache.tomcat.",
    "org.apache.zookeeper.",
    "org.asynchttpclient.",
    "org.eclipse.jetty.",
    "org.elasticsearch.client.",
    "org.glassfish.",
    "org.hibernate.",
    "org.jboss.",
    "org.jsoup.",
    "org.junit.",
    "org.mariadb.",
    "org.mongodb.",
    "org.postgresql.",
    "org.slf4j.",
    "org.springframework.",
    "reactor.",
    "redis.clients.",
    "retrofit2.",
];

/// Parts of the names of classes that nobody wrote: what calls a lambda, a proxy, an accessor.
const MADE: [&str; 6] = [
    "$$Lambda",
    "LambdaForm$",
    "$Proxy",
    "GeneratedMethodAccessor",
    "GeneratedConstructorAccessor",
    "$$FastClassBy",
];

/// A class as Java writes it. A hidden one has an address or a number at the end of its name that is
/// another one in each process: without it.
pub fn class_name(internal: &str) -> String {
    let hidden = internal.find("+0x").or_else(|| internal.find("/0x"));
    let name = hidden.map_or(internal, |end| internal.get(..end).unwrap_or(internal));
    let name = match name.split_once("$$Lambda$") {
        Some((class, _)) => format!("{class}$$Lambda"),
        None => name.to_owned(),
    };
    name.replace('/', ".")
}

/// Whether a class was made at run time, by the name that Java gives it.
pub fn is_made_at_run_time(class: &str) -> bool {
    MADE.iter().any(|part| class.contains(part))
}

/// Whether a class is the program's own.
pub fn is_own(class: &str) -> bool {
    !FOREIGN.iter().any(|package| class.starts_with(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_go_by_their_package() {
        for own in [
            "Crawler",
            "com.acme.Crawler",
            "javaland.Crawler",
            "org.apache.App",
        ] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "java.net.Socket",
            "sun.nio.ch.NioSocketImpl",
            "jdk.internal.reflect.DirectMethodHandleAccessor",
            "org.apache.commons.httpclient.HttpConnection",
            "okhttp3.internal.connection.RealConnection",
            "com.sun.proxy.Anything",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn classes_are_called_as_in_java() {
        assert_eq!(class_name("com/acme/Crawler$Page"), "com.acme.Crawler$Page");
        assert_eq!(
            class_name("com/acme/Crawler$$Lambda$14+0x0000000800c03400"),
            "com.acme.Crawler$$Lambda"
        );
        assert_eq!(class_name("Crawler$$Lambda+0x00007f"), "Crawler$$Lambda");
        assert_eq!(
            class_name("java/lang/invoke/LambdaForm$DMH+0x0000000800c04000"),
            "java.lang.invoke.LambdaForm$DMH"
        );
        assert!(is_made_at_run_time("Crawler$$Lambda"));
        assert!(!is_made_at_run_time("Crawler$Page"));
    }
}
